"""Odd and hostile uploads: each gets an answer or a sentence, the server and memory recover, the disk stays as it was."""

import gc
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxr_core import images
from cxr_core.errors import CxrError
from cxr_core.formatting import printable
from cxr_core.inference import predict, uploads
from cxr_core.inference.predict import LoadedModel, Result
from cxr_core.runs import run_store as runs
from tests.test_dicom import content, made
from tests.test_images import png_that_claims

RNG = np.random.default_rng(7)
GREY = np.clip(RNG.normal(120, 40, (120, 100)), 0, 255).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 16
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)


def file(kind: str, pixels: np.ndarray = GREY, mode: str = "", **options: object) -> bytes:
    out = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(out, kind, **options)
    return out.getvalue()


def zipped(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def animated() -> bytes:
    out = io.BytesIO()
    frames = [Image.fromarray(np.roll(GREY, shift, 0)) for shift in range(4)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return file("JPEG", exif=exif)


def deflated_bomb() -> bytes:
    """DICOM whose 64 KB inflate to 64 MB."""
    whole = content(made(GREY))
    head = whole[: whole.index(b"1.2.840.10008.1.2.1") + 22].replace(
        b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"
    )
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return head + packer.compress(bytes(2**26)) + packer.flush()


def icc() -> bytes:
    return file("JPEG", COLOUR, icc_profile=RNG.bytes(5000))


def png_text_bomb() -> bytes:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("comment", "x" * 3_000_000, zip=True)
    return file("PNG", pnginfo=info)


SCRIPT = "<script>alert(1)</script>.png"
JPEG, PNG = file("JPEG"), file("PNG")
GOOD: dict[str, bytes | Callable[[], bytes]] = {
    "grey.png": PNG,
    "grey.jpeg": JPEG,
    "grey.bmp": file("BMP"),
    "grey.tiff": file("TIFF"),
    "packed.tiff": file("TIFF", compression="tiff_lzw"),
    "grey.webp": file("WEBP", COLOUR),
    "progressive.jpg": file("JPEG", progressive=True),
    "colour.png": file("PNG", COLOUR),
    "alpha.png": file("PNG", COLOUR, "RGBA"),
    "grey-alpha.png": file("PNG", GREY, "LA"),
    "palette.png": file("PNG", COLOUR, "P"),
    "bits.png": file("PNG", GREY, "1"),
    "cmyk.jpeg": file("JPEG", COLOUR, "CMYK"),
    "ycc.jpeg": file("JPEG", COLOUR, "YCbCr"),
    "deep.png": file("PNG", DEEP),
    "deep.tiff": file("TIFF", DEEP),
    "float.tiff": file("TIFF", GREY.astype(np.float32)),
    "int.tiff": file("TIFF", GREY.astype(np.int32)),
    "turned.jpeg": turned,
    "one-pixel.png": file("PNG", GREY[:1, :1]),
    "thin.png": file("PNG", np.tile(GREY[:1], (1, 40))),
    "black.png": file("PNG", np.zeros((90, 90), np.uint8)),
    "white.png": file("PNG", np.full((90, 90), 255, np.uint8)),
    "large.png": file("PNG", np.zeros((6000, 5000), np.uint8)),
    "png called.jpeg": PNG,
    "jpeg called.dcm": JPEG,
    "no ending": PNG,
    "odd-profile.jpeg": icc,
    SCRIPT: PNG,
    "../../etc/passwd.png": PNG,
    "ünï cödé 肺.png": PNG,
    "x" * 300 + ".png": PNG,
    "\x00\x1b[31m.png": PNG,
    "=cmd|' /C calc'!A0.png": PNG,
    "dicom.dcm": content(made(GREY)),
    "dicom without ending": content(made(GREY)),
    "inverted.dcm": content(made(255 - GREY, PhotometricInterpretation="MONOCHROME1")),
    "twelve.dcm": content(made(DEEP, bits=12)),
    "frames.dcm": content(made(np.stack([GREY] * 3), NumberOfFrames=3)),
    "script in tag.dcm": content(made(GREY, PatientName="<script>alert(1)</script>")),
}
BAD: dict[str, bytes | Callable[[], bytes]] = {
    "empty.png": b"",
    "lab.tiff": file("TIFF", COLOUR, "LAB"),
    "long text.png": png_text_bomb,
    "cut.jpeg": JPEG[: len(JPEG) // 2],
    "cut.png": PNG[: len(PNG) // 2],
    "header only.png": PNG[:30],
    "cut.tiff": file("TIFF")[:200],
    "cut.webp": file("WEBP", COLOUR)[:100],
    "cut.bmp": file("BMP")[:100],
    "huge header.png": png_that_claims(50_000, 50_000),
    "text.png": b"no image at all",
    "page.png": b"<!doctype html><html><script>alert(1)</script></html>",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "animated.gif": animated,
    "document.pdf": b"%PDF-1.7 \n1 0 obj << >> endobj",
    "program.png": b"MZ" + RNG.bytes(2000),
    "script.png": b"#!/bin/sh\nrm -rf /\n",
    "noise.jpeg": RNG.bytes(4000),
    "noise behind a mark.jpeg": b"\xff\xd8\xff\xe0" + RNG.bytes(4000),
    "noise behind a mark.png": PNG[:8] + RNG.bytes(4000),
    "zeros.dcm": bytes(1000),
    "mark only.dcm": bytes(128) + b"DICM",
    "noise.dcm": bytes(128) + b"DICM" + RNG.bytes(2000),
    "cut.dcm": content(made(GREY))[:600],
    "deflated.dcm": content(made(GREY, syntax=DeflatedExplicitVRLittleEndian)),
    "deflated bomb.dcm": deflated_bomb,
    "no pixels.dcm": content(made(GREY))[: content(made(GREY)).index(b"\xe0\x7f\x10\x00")],
    "huge.dcm": content(made(GREY, Rows=60_000, Columns=60_000)),
    "many frames.dcm": content(made(GREY, NumberOfFrames=2_000_000)),
    "wrong bits.dcm": content(made(GREY, BitsAllocated=64, BitsStored=64, HighBit=63)),
    "wrong packing.dcm": content(made(GREY))[:-2000],
    "bomb.zip": zipped(("big.png", bytes(60_000_000))),
    "outside.zip": zipped(("../../x.png", PNG)),
    "nested.zip": zipped(("inner.zip", zipped(("a.png", PNG)))),
    "cut.zip": zipped(("a.png", PNG))[:60],
    "empty.zip": zipped(),
    "bad inside.zip": zipped(("a.png", b"no image")),
}


@pytest.fixture(scope="module")
def model(trained: Path) -> LoadedModel:
    before = os.environ.get("CXR_HOME")
    os.environ["CXR_HOME"] = str(trained)
    try:
        return predict.load(runs.list_ids()[0])
    finally:
        os.environ.pop("CXR_HOME")
        if before:
            os.environ["CXR_HOME"] = before


def asked(model: LoadedModel, name: str, data: bytes | Callable[[], bytes]) -> list[Result]:
    items, problems = uploads.input_files([(name, data if isinstance(data, bytes) else data())])
    return [*predict.stream(model, items), *(Result(name, problem=sentence) for name, sentence in problems)]


def test_there_are_enough_of_them() -> None:
    assert len(GOOD) + len(BAD) >= 75


@pytest.mark.parametrize("name", GOOD)
def test_an_odd_image_is_answered(model: LoadedModel, name: str) -> None:
    (found,) = asked(model, name, GOOD[name])
    assert found.prediction is not None, found.problem
    assert sum(found.prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert found.name == printable(name)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_gets_a_sentence(model: LoadedModel, name: str) -> None:
    (found,) = asked(model, name, BAD[name])
    assert found.prediction is None
    assert (
        (found.problem[0].isupper() or found.problem.startswith(name))
        and found.problem.endswith((".", ")"))
        and "Traceback" not in found.problem
    )
    assert "alert(1)" not in found.problem


def test_both_grey_scales_of_dicom_get_the_same_answer(model: LoadedModel) -> None:
    plain, inverted = (asked(model, name, GOOD[name])[0].prediction for name in ("dicom.dcm", "inverted.dcm"))
    assert plain and inverted and plain.probabilities == pytest.approx(inverted.probabilities, abs=1e-3)


def test_memory_comes_back_and_nothing_is_written(
    model: LoadedModel, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"  # other processes write to the machine's
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def lying() -> set[Path]:
        return {*temporary.rglob("*"), *home.rglob("*")}

    every = {**GOOD, **BAD}
    for name, data in every.items():
        asked(model, name, data)
    gc.collect()
    held, there = psutil.Process().memory_info().rss, lying()
    for name, data in every.items():
        asked(model, name, data)
    gc.collect()
    assert psutil.Process().memory_info().rss - held < 100 * 2**20
    assert lying() - there == set()


def test_three_hundred_files_at_once(model: LoadedModel) -> None:
    names = list({**GOOD, **BAD})
    small = [name for name in names if name not in ("large.png", "long text.png", "bomb.zip", "deflated bomb.dcm")]
    chosen = [small[number % len(small)] for number in range(300)]
    data = {name: (one if isinstance(one, bytes) else one()) for name, one in {**GOOD, **BAD}.items()}
    items, problems = uploads.input_files([(name, data[name]) for name in chosen])
    found = list(predict.stream(model, items))
    assert len(found) == len(items) and len(found) + len(problems) == 300
    assert all((one.prediction is None) != (one.problem == "") for one in found)


FUZZED = int(os.environ.get("CXR_FUZZ", "2000"))


def test_damaged_bytes_end_in_pixels_or_words() -> None:
    """CXR_FUZZ=100000 for the long form."""
    rng = np.random.default_rng(int(os.environ.get("CXR_FUZZ_SEED", "0")))
    whole = [one if isinstance(one, bytes) else one() for name, one in GOOD.items() if name != "large.png"]
    whole += [content(made(GREY[:24, :24]))]
    for _ in range(FUZZED):
        data = bytearray(whole[rng.integers(len(whole))])
        for _ in range(rng.integers(1, 20)):
            place = int(rng.integers(len(data))) if rng.random() < 0.5 else int(rng.integers(min(len(data), 400)))
            kind = rng.integers(4)
            if kind == 0:
                data[place] = rng.integers(256)
            elif kind == 1:
                del data[place : place + int(rng.integers(1, 40))]
            elif kind == 2:
                data[place:place] = rng.bytes(int(rng.integers(1, 40)))
            else:
                data[place] ^= 1 << int(rng.integers(8))
            if not data:
                data = bytearray(b"\0")
        try:
            pixels = images.read(bytes(data))
        except CxrError:
            continue
        assert pixels.dtype == np.uint8 and pixels.ndim == 2 and pixels.size
