"""Uploads to single images, without trust and without the disk."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cxr_core import images
from cxr_core.errors import UnreadableImage
from cxr_core.inference import uploads
from cxr_core.inference.predict import InputFile
from tests.test_dicom import content as dicom_content
from tests.test_dicom import made

IMAGE = images.encode(np.full((20, 20), 90, np.uint8), format="PNG")


def zipped(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def content_of(item: InputFile) -> bytes:
    return item.content() if callable(item.content) else item.content


def test_a_file_is_itself_and_an_archive_is_what_is_in_it() -> None:
    files = [("a.png", IMAGE), ("more.zip", zipped({"in/b.png": IMAGE, "notes.txt": b"no", "__MACOSX/b.png": b"no"}))]
    found, problems = uploads.input_files(files)
    assert [one.name for one in found] == ["a.png", "more.zip/in/b.png"]
    assert problems == [("more.zip", "1 file in it left out, since only images are read: notes.txt")]
    assert [content_of(one) for one in found] == [IMAGE, IMAGE]


def test_a_path_to_an_archive_does_too(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped({"b.png": IMAGE}))
    found, _ = uploads.input_files([("x.zip", tmp_path / "x.zip")])
    assert content_of(found[0]) == IMAGE


def test_files_of_a_hospitals_disc_are_taken_though_they_have_no_ending() -> None:
    film = dicom_content(made(np.full((20, 20), 90, np.uint8)))
    disc = zipped({"DICOM/PAT0/IM000001": film, "DICOM/1.2.840.7": film, "DICOMDIR": film, "README": b"text"})
    found, problems = uploads.input_files([("disc.zip", disc)])
    assert [one.name for one in found] == ["disc.zip/DICOM/PAT0/IM000001", "disc.zip/DICOM/1.2.840.7"]
    assert "DICOMDIR, README" in problems[0][1]


def test_a_name_steers_no_terminal() -> None:
    (item,), _ = uploads.input_files([("x.zip", zipped({"a\x1b[2Jb.png": IMAGE}))])
    assert item.name.isprintable() and item.name.startswith("x.zip/a") and item.name.endswith("b.png")
    (item,), _ = uploads.input_files([("\ud800.png", IMAGE)])
    item.name.encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped({"../b.png": IMAGE}), "points outside"),
        (zipped({"notes.txt": b"no"}), "holds no image files"),
        (zipped({"inner.zip": zipped({"b.png": IMAGE})}), "Archives inside an archive are not opened"),
        (zipped({"big.png": bytes(50_000_000)}), "zip bomb"),
        (b"PK\x03\x04 and nothing more", "not a zip archive"),
        (zipped({}), "holds no image files"),
    ],
)
def test_an_archive_that_will_not_do_is_told(content: bytes, words: str) -> None:
    found, problems = uploads.input_files([("x.zip", content), ("a.png", IMAGE)])
    assert [one.name for one in found] == ["a.png"]
    ((name, sentence),) = problems
    assert name == "x.zip" and words in sentence


def test_more_files_than_are_taken_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_FILES", 2)
    _, problems = uploads.input_files([("x.zip", zipped({f"{number}.png": IMAGE for number in range(3)}))])
    assert "at most 2 files" in problems[0][1]


def test_a_damaged_member_is_told_when_it_is_read() -> None:
    content = bytearray(zipped({"b.png": IMAGE}, zipfile.ZIP_STORED))
    content[60] ^= 0xFF
    found, problems = uploads.input_files([("x.zip", bytes(content))])
    assert not problems
    with pytest.raises(UnreadableImage, match="damaged inside its archive"):
        content_of(found[0])
