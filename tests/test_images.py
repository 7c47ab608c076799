"""Images: every supported file becomes the same grey pixels, and everything else is refused in a sentence."""

import contextlib
import io
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from cxr_core import images, memory_budget
from cxr_core.errors import UnreadableImage
from tests.conftest import PROJECT

RAMP = np.add.outer(np.arange(24) * 6, np.arange(32) * 3).astype(np.uint8)  # (24, 32): height and width differ
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
ALPHA = np.where(np.arange(32) < 16, 255, 0).astype(np.uint8) * np.ones((24, 1), np.uint8)  # the right half is clear


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601-2, from the definition."""
    return rgb.astype(float) @ [0.299, 0.587, 0.114]


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def palette() -> Image.Image:
    """Index k is painted as grey 255 - k, so that reading the index instead of its colour shows."""
    image = Image.fromarray(RAMP, "P")
    image.putpalette([value for k in range(256) for value in (255 - k,) * 3])
    return image


def with_alpha(*bands: np.ndarray) -> Image.Image:
    return Image.merge("LA" if len(bands) == 1 else "RGBA", [Image.fromarray(band) for band in (*bands, ALPHA)])


grey, colour = Image.fromarray(RAMP), Image.fromarray(COLOUR)
laid_on_black = np.where(ALPHA > 0, RAMP, 0)

# name: file, what its pixels must be, how far off they may be (lossy formats and rounding), mode in the header
CASES: dict[str, tuple[Callable[[], bytes], np.ndarray, float, str]] = {
    "PNG-L": (lambda: file_of(grey, "PNG"), RAMP, 0, "L"),
    "PNG-1": (lambda: file_of(Image.fromarray(RAMP > 99), "PNG"), (RAMP > 99) * 255, 0, "1"),
    "PNG-LA": (lambda: file_of(with_alpha(RAMP), "PNG"), laid_on_black, 0, "LA"),
    "PNG-P": (lambda: file_of(palette(), "PNG"), 255 - RAMP, 0, "P"),
    "PNG-P-clear": (
        lambda: file_of(palette(), "PNG", transparency=int(RAMP[3, 3])),
        np.where(RAMP[3, 3] == RAMP, 0, 255 - RAMP),
        0,
        "P",
    ),
    "PNG-L-clear": (
        lambda: file_of(grey, "PNG", transparency=int(RAMP[23, 31])),
        np.where(RAMP[23, 31] == RAMP, 0, RAMP),
        0,
        "L",
    ),
    "PNG-RGB": (lambda: file_of(colour, "PNG"), luma(COLOUR), 1, "RGB"),
    "PNG-RGBA": (lambda: file_of(with_alpha(RAMP, RAMP, RAMP), "PNG"), laid_on_black, 0, "RGBA"),
    "PNG-16": (lambda: file_of(Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG"), RAMP, 0, "I;16"),
    "TIFF-L": (lambda: file_of(grey, "TIFF"), RAMP, 0, "L"),
    "TIFF-LZW": (lambda: file_of(grey, "TIFF", compression="tiff_lzw"), RAMP, 0, "L"),
    "TIFF-16": (lambda: file_of(Image.fromarray(RAMP.astype(np.uint16) * 257), "TIFF"), RAMP, 0, "I;16"),
    "TIFF-F": (lambda: file_of(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), RAMP, 0, "F"),
    "TIFF-RGBA": (lambda: file_of(with_alpha(RAMP, RAMP, RAMP), "TIFF"), laid_on_black, 0, "RGBA"),
    "TIFF-CMYK": (lambda: file_of(colour.convert("CMYK"), "TIFF"), luma(COLOUR), 2, "CMYK"),
    "TIFF-pages": (
        lambda: file_of(grey, "TIFF", save_all=True, append_images=[Image.fromarray(255 - RAMP)]),
        RAMP,
        0,
        "L",
    ),
    "BMP-L": (lambda: file_of(grey, "BMP"), RAMP, 0, "L"),
    "BMP-P": (lambda: file_of(palette(), "BMP"), 255 - RAMP, 0, "P"),
    "BMP-RGB": (lambda: file_of(colour, "BMP"), luma(COLOUR), 1, "RGB"),
    "WEBP-RGB": (lambda: file_of(colour, "WEBP", lossless=True), luma(COLOUR), 1, "RGB"),
    "WEBP-RGBA": (
        lambda: file_of(with_alpha(RAMP, RAMP, RAMP), "WEBP", lossless=True, exact=True),
        laid_on_black,
        0,
        "RGBA",
    ),
    "JPEG-L": (lambda: file_of(grey, "JPEG", quality=95), RAMP, 4, "L"),
    "JPEG-RGB": (lambda: file_of(colour, "JPEG", quality=95, subsampling=0), luma(COLOUR), 4, "RGB"),
    "JPEG-kept-RGB": (lambda: file_of(colour, "JPEG", quality=95, keep_rgb=True), luma(COLOUR), 4, "RGB"),
    "JPEG-CMYK": (lambda: file_of(colour.convert("CMYK"), "JPEG", quality=95), luma(COLOUR), 8, "CMYK"),
    "JPEG-progressive": (lambda: file_of(grey, "JPEG", quality=95, progressive=True), RAMP, 4, "L"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_format_and_mode_becomes_the_right_grey_pixels(name: str):
    make, expected, off, mode = CASES[name]
    image = images.decode(make())
    header, pixels = image.header, image.grey
    assert (header.format, header.mode, header.width, header.height) == (name.split("-", maxsplit=1)[0], mode, 32, 24)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (24, 32))
    assert np.abs(pixels - np.asarray(expected, float)).max() <= off


def test_all_supported_formats_are_among_the_cases():
    assert {name.split("-")[0] for name in CASES} == set(images._PILLOW)


@pytest.mark.parametrize(("top", "full"), [(255, 255), (1000, 1023), (3000, 4095), (4096, 16383), (65535, 65535)])
def test_deep_greys_fill_the_smallest_usual_depth_that_holds_them(top: int, full: int):
    deep = np.array([[0, top // 2, top]], np.uint16)
    assert images.read(file_of(Image.fromarray(deep), "PNG")).tolist() == [
        [0, round(top // 2 * 255 / full), round(top * 255 / full)]
    ]


@pytest.mark.parametrize("fill", [0, 7])
def test_an_even_deep_grey_stays_even(fill: int):
    pixels = images.read(file_of(Image.fromarray(np.full((4, 5), fill, np.uint16)), "PNG"))
    assert (pixels == fill).all()


def test_floats_that_are_no_counts_are_stretched_over_the_whole_range():
    values = np.array([[-1.0, 0.0, 1.0]], np.float32)
    assert images.read(file_of(Image.fromarray(values), "TIFF")).tolist() == [[0, 128, 255]]


# EXIF orientation n: what a viewer must do to the stored pixels (CIPA DC-008, tag 0x0112)
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_rotation_is_applied(kind: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    pixels = images.read(file_of(grey, kind, exif=exif, **lossless))
    expected = TURNS[orientation](RAMP)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected.astype(float)).max() <= (0 if kind in ("PNG", "TIFF") else 8)


def test_a_path_gives_the_same_pixels_as_its_bytes(tmp_path: Path):
    content = file_of(colour, "JPEG")
    (tmp_path / "a.jpeg").write_bytes(content)
    np.testing.assert_array_equal(images.read(tmp_path / "a.jpeg"), images.read(content))


def test_the_suffix_does_not_matter_only_the_content(tmp_path: Path):
    (tmp_path / "a.jpeg").write_bytes(file_of(grey, "PNG"))
    assert images.decode(tmp_path / "a.jpeg").header.format == "PNG"


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header announces a size that its few bytes do not hold."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def refusal(source: bytes | Path) -> str:
    with pytest.raises(UnreadableImage) as caught:
        images.read(source)
    message = str(caught.value)
    assert message[0].isupper() or isinstance(source, Path)
    assert message.endswith(".")
    return message


def test_an_empty_file_is_called_empty(tmp_path: Path):
    assert refusal(b"") == "The file is empty. An image file was expected."
    (tmp_path / "a.jpeg").touch()
    assert refusal(tmp_path / "a.jpeg") == "a.jpeg is empty. An image file was expected."


def test_text_is_no_image_and_the_formats_are_listed(tmp_path: Path):
    (tmp_path / "a.png").write_text("patient,finding\n1,none\n")
    message = refusal(tmp_path / "a.png")
    assert message.startswith("a.png is not an image")
    assert all(one in message for one in images._PILLOW)


def test_a_format_that_is_not_supported_is_refused():
    assert "is not an image that can be read here" in refusal(file_of(grey, "GIF"))


@pytest.mark.parametrize("kind", images._PILLOW)
def test_a_truncated_file_is_damaged_whatever_its_format(kind: str):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    content = file_of(noise, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    message = refusal(content[: len(content) // 2])
    assert "damaged or cut short" in message or "is not an image" in message


@pytest.mark.parametrize("quality", [30, 49, 50, 75, 90, 100])
def test_the_quality_of_a_jpeg_is_estimated_and_other_files_have_none(quality: int):
    assert abs(images.decode(file_of(colour, "JPEG", quality=quality)).header.quality - quality) <= 1
    assert images.decode(file_of(colour, "PNG")).header.quality == 0


def stored_luma(content: bytes) -> np.ndarray:
    """The luma plane of a JPEG as libjpeg gives it when asked for grey."""
    with Image.open(io.BytesIO(content)) as image:
        image.draft("L", image.size)
        return np.asarray(image.convert("L"))


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"keep_rgb": True}, {"progressive": True}])
@pytest.mark.parametrize("marker", ["JFIF", "Adobe", "none"])
def test_the_luma_of_a_colour_jpeg_is_its_stored_one_though_its_colours_are_decoded_too(options: dict, marker: str):
    rng = np.random.default_rng(3)
    content = file_of(Image.fromarray(rng.integers(0, 256, (41, 67, 3), dtype=np.uint8)), "JPEG", **options)
    if marker == "none":  # then the ids of the components tell whether they are luma and chroma
        content = content.replace(b"JFIF\0", b"none\0").replace(b"Adobe", b"none!")
    elif marker == "Adobe" and "keep_rgb" not in options:
        adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
        content = content[:2] + adobe + content[2:].replace(b"JFIF\0", b"none\0")
    image = images.decode(content)
    np.testing.assert_array_equal(image.grey, stored_luma(content))
    assert image.colourfulness > 0.02


def tinted(share: float) -> np.ndarray:
    """The ramp in grey, moved by a share towards colours that vary from place to place."""
    grey_ = np.repeat(RAMP[..., None], 3, axis=-1).astype(float)
    return (grey_ + share * (COLOUR - grey_)).round().astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_colourfulness_is_none_in_grey_and_grows_with_colour(kind: str):
    found = [images.decode(file_of(Image.fromarray(tinted(share)), kind)).colourfulness for share in (0, 0.3, 1)]
    assert found[0] <= 0.002 and 0.02 < found[1] < found[2] <= 1
    assert images.decode(file_of(grey, kind)).colourfulness <= 0.002


def test_what_is_transparent_has_no_colour():
    clear = Image.merge("RGBA", [*Image.fromarray(COLOUR).split(), Image.fromarray(np.zeros_like(RAMP))])
    assert images.decode(file_of(clear, "PNG")).colourfulness == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_file_is_opened_and_decoded_once(kind: str, monkeypatch: pytest.MonkeyPatch):
    opened: list[object] = []
    plain = Image.open
    monkeypatch.setattr(Image, "open", lambda *given, **named: opened.append(given) or plain(*given, **named))
    for picture in (grey, colour):
        image = images.decode(file_of(picture, kind))
        assert image.grey.size and image.header.width and image.frames == 1 and image.colourfulness >= 0
    assert len(opened) == 2


def test_a_missing_file_is_named(tmp_path: Path):
    assert refusal(tmp_path / "none.png") == f"There is no file {tmp_path / 'none.png'}."


def test_a_folder_is_no_image(tmp_path: Path):
    assert "is a folder" in refusal(tmp_path)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    assert refusal(tmp_path / "a.png") == "a.png could not be read (Permission denied)."


def test_pixels_that_are_not_numbers_are_refused():
    broken = np.array([[0, np.nan]], np.float32)
    assert "not numbers" in refusal(file_of(Image.fromarray(broken), "TIFF"))


def test_a_header_beyond_the_limit_is_refused_with_both_numbers_before_it_is_decoded():
    message = refusal(png_that_claims(10_001, 10_000))
    assert "10,001 × 10,000" in message
    assert "100,000,000" in message


def test_a_header_at_the_limit_is_not_refused_for_its_size():
    assert "at most" not in refusal(png_that_claims(10_000, 10_000))  # its content is cut short


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_a_huge_header_is_called_too_large_and_not_damaged(side: int):
    message = refusal(png_that_claims(side, side))
    assert f"{side:,} × {side:,}" in message
    assert "damaged" not in message


def test_a_huge_header_is_refused_at_once():
    refusal(png_that_claims(60_000, 60_000))


def test_odd_exif_is_no_reason_to_fail_in_any_other_way():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "x"
    content = file_of(grey, "JPEG", exif=exif)
    odd = content.replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02", 1)  # an ImageWidth that is a text
    assert odd != content
    with contextlib.suppress(UnreadableImage):
        images.read(odd)


def test_damaged_bytes_never_fail_in_any_other_way_than_unreadable():
    rng = np.random.default_rng(5)
    for kind in ("JPEG", "PNG", "BMP", "WEBP"):
        content = file_of(colour, kind)
        for _ in range(150):
            damaged = np.frombuffer(content, np.uint8).copy()
            damaged[rng.integers(0, min(len(damaged), 300), 3)] = rng.integers(0, 256, 3)
            try:
                pixels = images.read(damaged.tobytes())
            except UnreadableImage:
                continue
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 2


def test_prepare_makes_a_square_of_any_aspect_ratio():
    for shape in ((24, 32), (500, 100), (1, 1), (180, 179)):
        prepared = images.prepare(np.full(shape, 77, np.uint8), 180)
        assert (prepared.dtype, prepared.shape) == (np.uint8, (180, 180))
        assert (prepared == 77).all()


def test_prepare_leaves_an_image_of_the_right_size_as_it_is():
    square = np.arange(36, dtype=np.uint8).reshape(6, 6)
    np.testing.assert_array_equal(images.prepare(square, 6), square)


def test_prepare_averages_when_it_shrinks_so_that_nothing_aliases():
    checkers = (np.indices((400, 400)).sum(0) % 2 * 255).astype(np.uint8)
    small = images.prepare(checkers, 50)
    assert np.abs(small.astype(int) - 127).max() <= 2


def test_prepare_keeps_up_and_left_where_they_are():
    quadrant = np.zeros((300, 200), np.uint8)
    quadrant[:150, :100] = 200
    small = images.prepare(quadrant, 10)
    assert (small[:4, :4] == 200).all()
    assert small[6:].max() == 0
    assert small[:, 6:].max() == 0


def test_a_model_takes_three_equal_channels_still_in_0_to_255():
    pixels = np.stack([RAMP[:24, :24], 255 - RAMP[:24, :24]])
    taken = images.to_input(pixels)
    assert (taken.dtype, taken.shape) == (np.float32, (2, 24, 24, 3))
    for channel in range(3):
        np.testing.assert_array_equal(taken[..., channel], pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_encoded_pixels_are_read_back_the_same(kind: str):
    np.testing.assert_array_equal(images.read(images.encode(RAMP, format=kind)), RAMP)


def test_pixels_are_encoded_as_jpeg_by_default():
    image = images.decode(images.encode(RAMP))
    assert (image.header.format, image.header.mode) == ("JPEG", "L")
    assert np.abs(image.grey - RAMP.astype(float)).max() <= 8


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_counts_of_any_usual_depth_fill_the_greys(bits: int):
    top = 2**bits - 1
    values = np.linspace(0, top, 64).round().astype(np.uint16).reshape(8, 8)
    grey = images.read(images_of(values, "PNG"))
    assert grey.min() == 0 and grey.max() == 255


def test_a_tiff_of_16_bits_whose_0_is_white_is_turned():
    values = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    plain = images.read(images_of(values, "TIFF"))
    turned = images.read(images_of(values, "TIFF", tiffinfo={262: 0}))
    assert np.abs(255 - plain.astype(int) - turned).max() <= 1


def images_of(values: np.ndarray, format: str, **how: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, format, **how)
    return out.getvalue()


def test_whatever_a_parser_raises_is_told_as_a_damaged_file(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise TypeError("'IFDRational' object cannot be interpreted as an integer")

    monkeypatch.setattr(images, "_grey", broken)
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        images.read(images_of(np.zeros((4, 4), np.uint8), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "I;16", "I", "F", "CMYK"])
def test_an_image_in_strips_is_the_same_as_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    colours = Image.fromarray(rng.integers(0, 256, (301, 203, 4), dtype=np.uint8), "RGBA")
    image = {
        "I;16": lambda: Image.fromarray(rng.integers(0, 4096, (301, 203), dtype=np.uint16)),
        "I": lambda: Image.fromarray(rng.integers(-9, 70_000, (301, 203), dtype=np.int32)),
        "F": lambda: Image.fromarray(rng.normal(size=(301, 203)).astype(np.float32)),
        "PA": lambda: colours.convert("RGB").quantize(16).convert("PA"),
        "P": lambda: colours.convert("RGB").quantize(16),
    }.get(mode, lambda: colours.convert(mode))()
    whole, colourful = images._grey(image), images._colourfulness(image)
    monkeypatch.setattr(images, "_STRIP_PIXELS", 203 * 7)
    np.testing.assert_array_equal(images._grey(image), whole)
    assert images._colourfulness(image) == colourful


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_as_pillow_does(orientation: int) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(np.random.default_rng(4).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(file, "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue()))).convert("L")
    np.testing.assert_array_equal(images.read(file.getvalue()), np.asarray(expected))


def tiled_tiff(side: int, tile: int) -> bytes:
    """A TIFF of side × side grey pixels that says that it is stored in one tile of tile × tile, of which nothing follows."""
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 277: 1, 322: tile, 323: tile, 324: 8, 325: tile * tile}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tiff_with_a_tile_far_larger_than_its_image_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(UnreadableImage, match=r"64 × 64 pixels in tiles of 1,073,741,824 pixels"):
        images.decode(tiled_tiff(64, 2**15))
    with pytest.raises(UnreadableImage, match="cut short"):  # a tile of a usual size is tried
        images.decode(tiled_tiff(64, 512))


def with_scans(content: bytes, extra: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times more."""
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * extra + content[-2:]


def test_a_jpeg_of_too_many_scans_is_refused_and_an_ordinary_progressive_one_is_not() -> None:
    out = io.BytesIO()
    grey = np.random.default_rng(5).integers(0, 256, (64, 48), dtype=np.uint8)
    marks = b"\xff\xda" * 500  # two bytes that start a scan elsewhere
    Image.fromarray(grey).save(out, "JPEG", progressive=True, comment=marks)
    content = out.getvalue()
    assert content.count(b"\xff\xda") > 500
    assert images.decode(content).grey.shape == (64, 48)
    assert images.decode(with_scans(content, 20)).grey.shape == (64, 48)
    with pytest.raises(UnreadableImage, match="more than 100 scans"):
        images.decode(with_scans(content, 100))


def test_a_tiff_of_far_too_many_tiles_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(UnreadableImage, match="more than 100,000 parts"):
        images.decode(tiled_tiff(6400, 16))


def test_a_reduced_image_has_the_sizes_that_are_asked_for_and_knows_its_own() -> None:
    whole = images.DecodedImage(np.random.default_rng(6).integers(0, 256, (300, 200), dtype=np.uint8))
    reduced = images.reduce(whole, [64, 32], longest=150)
    assert reduced.shape == whole.shape == (300, 200) and reduced.grey.shape == (150, 100)
    np.testing.assert_array_equal(reduced.prepared[64], images.prepare(whole.grey, 64))
    assert images.reduce(whole, [64, 32], longest=0).grey.shape == (64, 64)
    assert images.reduce(whole, []).grey is whole.grey


def test_large_images_are_decoded_one_at_a_time_and_small_ones_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = [0], [0]

    def slow(image: Image.Image) -> np.ndarray:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.1)
        running[0] -= 1
        return np.zeros((image.height, image.width), np.uint8)

    monkeypatch.setattr(memory_budget, "SMALL_PIXELS", 40 * 40)
    monkeypatch.setattr(memory_budget, "PIXELS_AT_ONCE", 60 * 60)
    monkeypatch.setattr(images, "_grey", slow)
    large, small = (images.encode(np.zeros((side, side), np.uint8), format="PNG") for side in (50, 30))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(images.decode, [large] * 4))
        assert most == [1]
        list(pool.map(images.decode, [small] * 4))
        assert most[0] > 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "I;16", "F", "JPEG"])
def test_a_hundred_megapixels_take_less_than_900_mb(kind: str, tmp_path: Path) -> None:
    """In a process of its own, above what it held before; the file is a few hundred kilobytes."""
    side, path = 10_000, tmp_path / ("image." + {"F": "tif", "JPEG": "jpeg"}.get(kind, "png"))
    if kind == "I;16":
        Image.fromarray(np.tile(np.arange(side, dtype=np.uint16), (side, 1))).save(path)
    elif kind == "F":
        Image.new("F", (side, side), 0.5).save(path, compression="tiff_lzw")
    else:
        Image.new("RGB" if kind == "JPEG" else kind, (side, side)).save(path)
    code = (
        "import resource, sys; from pathlib import Path; from cxr_core import images\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
        "before = peak(); images.decode(Path(sys.argv[1])); print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 900
