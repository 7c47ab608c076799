"""Archives: image files come out, and nothing that an archive holds can reach outside or blow up."""

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxr_core import images
from cxr_core.data import archive
from cxr_core.errors import BadDataset, CxrError

PICTURE = images.encode(np.arange(256, dtype=np.uint8).reshape(16, 16))


def zip_of(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, content in members.items():
            opened.writestr(zipfile.ZipInfo(name) if "\\" in name else name, content)
    return path


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refusal(zipped: Path, into: Path) -> str:
    with pytest.raises(BadDataset) as caught:
        archive.extract(zipped, into)
    assert str(caught.value).endswith(".")
    return str(caught.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_images_come_out_in_their_folders_byte_for_byte(tmp_path: Path, compression: int):
    zipped = zip_of(tmp_path / "a.zip", {"t/A/1.jpeg": PICTURE, "t/B/2.PNG": b"two", "3.tiff": b"three"}, compression)
    assert archive.extract(zipped, tmp_path / "out").files == 3
    assert files_below(tmp_path / "out") == ["3.tiff", "t/A/1.jpeg", "t/B/2.PNG"]
    assert (tmp_path / "out/t/A/1.jpeg").read_bytes() == PICTURE


def test_what_is_no_image_and_what_is_hidden_stays_in(tmp_path: Path):
    names = [
        "a.csv",
        "b.exe",
        "__MACOSX/t/._c.jpeg",
        "__MACOSX/t/c.jpeg",
        "t/.DS_Store",
        "t/.d.jpeg",
        ".git/e.png",
        "t/f.jpeg",
        "README",
    ]
    zipped = zip_of(tmp_path / "a.zip", dict.fromkeys(names, PICTURE))
    assert archive.extract(zipped, tmp_path / "out").files == 1
    assert files_below(tmp_path / "out") == ["t/f.jpeg"]


def test_progress_is_told_in_files(tmp_path: Path):
    told: list[tuple[str, int, int]] = []
    zipped = zip_of(tmp_path / "a.zip", {"1.jpeg": PICTURE, "a.txt": b"", "2.jpeg": PICTURE})
    archive.extract(zipped, tmp_path / "out", lambda *one: told.append(one))
    assert told == [("Unpacking", 1, 2), ("Unpacking", 2, 2)]


def test_backslashes_of_windows_archives_separate_folders(tmp_path: Path):
    zipped = zip_of(tmp_path / "a.zip", {"train\\A\\1.jpeg": PICTURE})
    archive.extract(zipped, tmp_path / "out")
    assert files_below(tmp_path / "out") == ["train/A/1.jpeg"]


@pytest.mark.parametrize("content", [b"", b"not a zip", PICTURE, b"PK\x03\x04" + b"\0" * 100, b"PK\x05\x06"])
def test_what_is_no_zip_is_refused_by_name(tmp_path: Path, content: bytes):
    (tmp_path / "a.zip").write_bytes(content)
    assert refusal(tmp_path / "a.zip", tmp_path / "out").startswith("a.zip is not a zip archive that can be read")


def test_a_zip_that_was_cut_short_is_refused(tmp_path: Path):
    zipped = zip_of(tmp_path / "a.zip", {f"{n}.jpeg": PICTURE for n in range(9)})
    zipped.write_bytes(zipped.read_bytes()[:-100])
    assert "not a zip archive" in refusal(zipped, tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpeg",
        "t/../../evil.jpeg",
        "/evil.jpeg",
        "..\\evil.jpeg",
        "C:\\evil.jpeg",
        "C:evil.jpeg",
        "\\\\host\\e.jpeg",
    ],
)
def test_a_name_that_points_outside_is_refused_and_nothing_is_unpacked(tmp_path: Path, name: str):
    zipped = zip_of(tmp_path / "a.zip", {"t/good.jpeg": PICTURE, name: PICTURE})
    assert "points outside the archive" in refusal(zipped, tmp_path / "in" / "out")
    assert files_below(tmp_path) == ["a.zip"]


def test_even_a_text_file_that_points_outside_makes_the_archive_untrusted(tmp_path: Path):
    assert "points outside" in refusal(zip_of(tmp_path / "a.zip", {"../notes.txt": b""}), tmp_path / "out")


def test_a_link_is_refused_and_nothing_is_unpacked(tmp_path: Path):
    link = zipfile.ZipInfo("t/link.jpeg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("t/good.jpeg", PICTURE)
        opened.writestr(link, "/etc/passwd")
    assert "holds a link, 't/link.jpeg'" in refusal(tmp_path / "a.zip", tmp_path / "out")
    assert files_below(tmp_path) == ["a.zip"]


def test_an_encrypted_archive_is_refused_with_what_to_do(tmp_path: Path):
    zipped = zip_of(tmp_path / "a.zip", {"t/a.jpeg": PICTURE})
    content = bytearray(zipped.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the general purpose flag in the central directory
    content[content.index(b"PK\x03\x04") + 6] |= 1
    zipped.write_bytes(content)
    assert refusal(zipped, tmp_path / "out") == "a.zip is encrypted. Unpack it yourself and add the folder."
    assert files_below(tmp_path) == ["a.zip"]


def test_a_zip_bomb_is_refused_and_nothing_is_unpacked(tmp_path: Path):
    zipped = zip_of(tmp_path / "a.zip", {"t/good.jpeg": PICTURE, "t/bomb.bmp": bytes(8 * 2**20)})
    assert "a zip bomb. Nothing was unpacked." in refusal(zipped, tmp_path / "out")
    assert files_below(tmp_path) == ["a.zip"]


@pytest.mark.parametrize(("limit", "most"), [("MAX_FILES", 2), ("MAX_BYTES", 100)])
def test_too_many_files_or_bytes_are_refused_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
):
    monkeypatch.setattr(archive, limit, most)
    zipped = zip_of(tmp_path / "a.zip", {f"{n}.jpeg": PICTURE for n in range(3)})
    assert "would unpack to 3 files" in refusal(zipped, tmp_path / "out")
    assert files_below(tmp_path) == ["a.zip"]


def test_a_member_never_writes_more_than_it_announced(tmp_path: Path):
    """The header of a bomb may lie: here it announces 5 bytes of a thousand."""
    zipped = zip_of(tmp_path / "a.zip", {"a.jpeg": b"x" * 1000}, zipfile.ZIP_STORED)
    content = bytearray(zipped.read_bytes())
    place = content.index(b"PK\x01\x02") + 24
    content[place : place + 4] = (5).to_bytes(4, "little")
    zipped.write_bytes(content)
    try:
        archive.extract(zipped, tmp_path / "out")
    except BadDataset:
        return
    assert all(path.stat().st_size <= 5 for path in (tmp_path / "out").rglob("*") if path.is_file())


def damaged(zipped: Path, name: str) -> None:
    """Overwrite bytes in the middle of a stored member, so that its checksum fails."""
    with zipfile.ZipFile(zipped) as opened:
        place = opened.getinfo(name).header_offset + 30 + len(name) + 200
    content = bytearray(zipped.read_bytes())
    content[place : place + 8] = b"\xff" * 8
    zipped.write_bytes(content)


@pytest.mark.parametrize(
    "compression",
    [
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
        zipfile.ZIP_BZIP2,
        zipfile.ZIP_LZMA,
    ],
)
def test_a_damaged_member_ends_in_words_or_leaves_the_other_images(tmp_path: Path, compression: int):
    noise = np.random.default_rng(0).bytes(4000)
    zipped = zip_of(tmp_path / "a.zip", {"a.jpeg": noise, "b.jpeg": PICTURE}, compression)
    damaged(zipped, "a.jpeg")
    try:
        archive.extract(zipped, tmp_path / "out")
    except CxrError as error:
        assert str(error).endswith(".")
        return
    assert (tmp_path / "out/b.jpeg").read_bytes() == PICTURE


def test_a_member_whose_header_is_damaged_is_not_lost_without_a_word(tmp_path: Path):
    zipped = zip_of(tmp_path / "a.zip", {"a.jpeg": PICTURE, "b.jpeg": PICTURE})
    content = bytearray(zipped.read_bytes())
    content[:2] = b"XX"  # of the first member's local header
    with io.BytesIO(bytes(content)) as check, zipfile.ZipFile(check) as opened:
        assert len(opened.infolist()) == 2
    zipped.write_bytes(content)
    try:
        written = archive.extract(zipped, tmp_path / "out")
    except CxrError:
        return
    assert written.files == len(files_below(tmp_path / "out"))


def not_utf8(content: bytes) -> bytes:
    """Say that names are UTF-8, and make one that is not."""
    return content.replace("é".encode(), b"\xff\xff")


def no_name(content: bytes) -> bytes:
    """Take the only member's name away in the central directory."""
    place = content.index(b"PK\x01\x02")
    short = bytearray(content[place:])
    length = int.from_bytes(short[28:30], "little")
    short[28:30] = b"\0\0"
    del short[46 : 46 + length]
    end = short.index(b"PK\x05\x06")
    short[end + 12 : end + 16] = end.to_bytes(4, "little")
    return content[:place] + bytes(short)


@pytest.mark.parametrize("spoil", [not_utf8, no_name])
def test_an_odd_name_is_refused_in_words(tmp_path: Path, spoil: Callable[[bytes], bytes]):
    zipped = zip_of(tmp_path / "a.zip", {"é.jpeg": PICTURE})
    zipped.write_bytes(spoil(zipped.read_bytes()))
    refusal(zipped, tmp_path / "out")


def test_a_member_named_as_the_folder_itself_is_refused_in_words(tmp_path: Path):
    zipped = zip_of(tmp_path / "a.zip", {".": b"", "a.jpeg": PICTURE})
    try:
        archive.extract(zipped, tmp_path / "out")
    except CxrError:
        return
    assert files_below(tmp_path / "out") == ["a.jpeg"]


@pytest.mark.parametrize("bad", ["good.jpeg/b.jpeg", "a" * 300 + ".jpeg", "b" * 300 + "/c.jpeg"])
def test_a_name_that_no_disk_can_hold_is_skipped_with_its_reason(tmp_path: Path, bad: str):
    zipped = zip_of(tmp_path / "a.zip", dict.fromkeys(("good.jpeg", bad), PICTURE))
    unpacked = archive.extract(zipped, tmp_path / "out")
    ((name, reason),) = unpacked.skipped
    assert unpacked.files == 1
    assert bad.startswith(name)
    assert reason.startswith("This disk cannot hold a file of this name")
    assert files_below(tmp_path / "out") == ["good.jpeg"]


def test_what_would_not_be_unpacked_is_no_bomb(tmp_path: Path):
    zipped = zip_of(tmp_path / "a.zip", {"t/good.jpeg": PICTURE, "x.txt": bytes(8 * 2**20)})
    assert archive.extract(zipped, tmp_path / "out").files == 1


def test_files_that_are_asked_for_come_too(tmp_path: Path):
    names = ["n/Data_Entry_2017_v2020.csv", "n/test_list.txt", "n/other.csv", "n/a.png", "__MACOSX/test_list.txt"]
    zipped = zip_of(tmp_path / "a.zip", dict.fromkeys(names, PICTURE))
    archive.extract(zipped, tmp_path / "out", also=("Data_Entry_2017*.csv", "test_list.txt"))
    assert files_below(tmp_path / "out") == ["n/Data_Entry_2017_v2020.csv", "n/a.png", "n/test_list.txt"]
