"""Decoding in child processes: the same pixels, limits that end it, and nothing left behind."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from cxr_core import decoding, images, memory_budget
from cxr_core.decoding import GivenUp, Patience
from cxr_core.errors import UnreadableImage
from tests.test_dicom import RAMP, content, made
from tests.test_images import png_that_claims, with_scans

GREY = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)


def file(kind: str, pixels: np.ndarray = GREY, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


FILES = {
    "grey.jpeg": file("JPEG"),
    "colour.png": file("PNG", np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)),
    "deep.tiff": file("TIFF", GREY.astype(np.uint16) * 16),
    "ramp.dcm": content(made(RAMP)),
}


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file that never has a first byte."""
    path = tmp_path / "endless.png"
    os.mkfifo(path)
    return path


def children(process: psutil.Process | None = None) -> list[psutil.Process]:
    every = (process or psutil.Process()).children(recursive=True)
    return [child for child in every if any("decoding_process" in word for word in child.cmdline())]


@pytest.mark.parametrize("name", FILES)
def test_a_child_sees_what_this_process_sees(name: str) -> None:
    found = decoding.decode(FILES[name], sizes=[32, 48, 32], longest=40)
    whole = images.decode(FILES[name])
    expected = images.reduce(whole, [32, 48], longest=40)
    assert found.header == expected.header and found.dicom == expected.dicom and found.shape == whole.grey.shape
    assert found.colourfulness == expected.colourfulness
    np.testing.assert_array_equal(found.grey, expected.grey)
    for size in (32, 48):
        np.testing.assert_array_equal(found.prepared[size], expected.prepared[size])


def test_what_is_no_image_gets_the_same_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(b"no image")
    for source in (b"no image", b"", FILES["grey.jpeg"][:300], path, tmp_path / "none.png", tmp_path):
        with pytest.raises(UnreadableImage) as here:
            images.decode(source)
        with pytest.raises(UnreadableImage) as there:
            decoding.decode(source)
        assert str(there.value) == str(here.value)


def test_a_large_image_waits_for_the_memory_budget_and_the_limit_holds_for_children_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_budget, "SMALL_PIXELS", 1000)
    with memory_budget.reserve(2000), pytest.raises(GivenUp):
        monkeypatch.setattr(memory_budget, "PIXELS_AT_ONCE", 5000)
        decoding.decode(FILES["grey.jpeg"], sizes=[32], patience=Patience(deadline=time.monotonic() + 1))
    assert decoding.decode(FILES["grey.jpeg"], sizes=[32]).shape == (90, 70)
    with pytest.raises(UnreadableImage, match=r"50,000 × 50,000 pixels; at most 100,000,000 pixels are read"):
        decoding.decode(png_that_claims(50_000, 50_000))


def test_an_image_that_takes_too_much_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MEGABYTES", 1)
    monkeypatch.setattr(decoding, "_BYTES_PER_PIXEL", 1)
    with pytest.raises(UnreadableImage, match=r"takes more than \d+ MB to decode, so it was not read"):
        decoding.decode(file("PNG", np.zeros((2000, 2000, 3), np.uint8)), sizes=[32])
    monkeypatch.undo()
    assert decoding.decode(FILES["deep.tiff"], sizes=[32]).shape == (90, 70)


def test_a_decode_that_takes_too_long_is_killed_and_the_next_one_works(
    endless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_WALL_SECONDS", 0.3)
    before = set(children())
    start = time.monotonic()
    with pytest.raises(UnreadableImage, match=r"takes more than 0\.3 s to decode, so it was not read"):
        decoding.decode(endless)
    assert time.monotonic() - start < 5
    monkeypatch.undo()
    assert decoding.decode(FILES["deep.tiff"], sizes=[32]).shape == (90, 70)
    assert len(children()) <= max(len(before), decoding._POOL._size)


@pytest.mark.slow
def test_a_decode_that_computes_too_long_is_ended_by_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "SECONDS", 1)
    noise = np.random.default_rng(1).integers(0, 256, (1900, 2000), dtype=np.uint8)
    with pytest.raises(UnreadableImage, match="takes more than 1 s of processor time to decode"):
        decoding.decode(with_scans(file("JPEG", noise, progressive=True, quality=95), 90), sizes=[32])


def test_whoever_does_not_wait_any_longer_ends_the_work(endless: Path) -> None:
    gone = threading.Event()
    threading.Timer(0.3, gone.set).start()
    start = time.monotonic()
    with pytest.raises(GivenUp, match="Too late"):
        decoding.decode(endless, patience=Patience(has_left=gone.is_set, sentence="Too late."))
    with pytest.raises(GivenUp, match="Too late"):
        decoding.decode(endless, patience=Patience(deadline=time.monotonic() + 0.2, sentence="Too late."))
    assert time.monotonic() - start < 5
    with pytest.raises(GivenUp):
        decoding.decode(FILES["grey.jpeg"], patience=Patience(deadline=0))


def test_children_end_with_their_parent_even_in_the_middle(endless: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cxr_core import decoding\n"
        "decoding.warm(); print('ready', flush=True); decoding.decode(Path(sys.argv[1]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, endless], stdout=subprocess.PIPE)
    assert parent.stdout and parent.stdout.readline() == b"ready\n"
    started = children(psutil.Process(parent.pid))
    assert len(started) >= 2
    time.sleep(0.5)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert not psutil.wait_procs(started, timeout=20)[1]


def test_a_child_has_none_of_the_secrets_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    decoding.close()
    monkeypatch.setenv("CXR_API_TOKEN", "secret")
    decoding.decode(FILES["grey.jpeg"], sizes=[32])
    started = [child for child in children() if child.status() != psutil.STATUS_ZOMBIE]
    assert started and all("CXR_API_TOKEN" not in child.environ() for child in started)


def test_a_child_that_died_meanwhile_is_replaced() -> None:
    decoding.decode(FILES["grey.jpeg"], sizes=[32])
    for child in children():
        child.kill()
    time.sleep(0.1)
    for _ in range(4):
        assert decoding.decode(FILES["grey.jpeg"], sizes=[32]).shape == (90, 70)


GOOD = {
    "grey": [4, 4], "whole": [90, 70], "colourfulness": 0.0, "dicom": None,
    "header": {"format": "PNG", "mode": "L", "width": 70, "height": 90, "quality": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"grey": [4, 5]}, {"grey": [-4, -4]}, {"grey": [4]}, {"grey": None}, {"grey": ["4", "4"]}, {"grey": [2, 4]},
        {"whole": [10**9, 10**9]}, {"whole": [0, 5]}, {"whole": "x"}, {"header": {}}, {"header": []},
        {"colourfulness": "x"}, {"dicom": {"facts": []}}, {"dicom": 3},
    ],
)  # fmt: skip
def test_whatever_a_child_says_becomes_an_image_or_a_sentence(changed: dict) -> None:
    request = {"path": None, "frame": None, "sizes": [2], "longest": 4, "pixels": 1, "megabytes": 1, "seconds": 1}
    reply = memoryview(bytes(20))
    assert decoding._image(GOOD, reply, request).prepared[2].shape == (2, 2)
    with pytest.raises(UnreadableImage):
        decoding._image({**GOOD, **changed}, reply, request)
