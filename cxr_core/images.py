"""From any supported file to pixels: the one decoder and the one pre-processing of the project.

    bytes or path ── read ──► uint8 (H, W) ── prepare ──► uint8 (S, S) ── to_input ──► float32 (N, S, S, 3) in 0..255

Packing, training, evaluation and live prediction all go through these functions, so a prediction on a screen sees the
very pixels that the evaluation saw. Each model does its own scaling inside its graph.
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cxr_core import dicom
from cxr_core.errors import UnreadableImage

Pixels = npt.NDArray[np.uint8]

_PILLOW = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
FORMATS = (*_PILLOW, "DICOM")
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom")
MAX_PIXELS = 100_000_000  # four times the largest clinical detector (about 5,000 x 5,000)
Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is checked on the header instead, with a sentence that gives the size


@dataclass(frozen=True)
class Header:
    """What a file says of itself: `format` is one of FORMATS, `mode` is Pillow's ("L", "RGB", "RGBA", "I;16", …) or DICOM's."""

    format: str
    mode: str
    width: int
    height: int


def decode(source: bytes | Path, *, frame: int = 0) -> tuple[Header, Pixels]:
    """Decode an image to grey and tell what it was.

    Colour becomes luma (ITU-R 601-2), transparency is laid over black, EXIF rotation is applied, 12- and 16-bit greys
    are scaled to 8 bit, and of several pages the first is taken. Of DICOM see dicom.py.

    Args:
        source: the file's bytes, or its path.
        frame: of a DICOM file with several (`frames`), from 0.

    Returns:
        The header, and uint8 (H, W) in 0..255.

    Raises:
        UnreadableImage: not one of FORMATS, damaged, truncated or larger than MAX_PIXELS.
    """
    if dicom.is_dicom(source):
        photometric, grey = dicom.read(source, max_pixels=MAX_PIXELS, frame=frame)
        return Header("DICOM", photometric, grey.shape[1], grey.shape[0]), grey
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; what matters here is whether there are pixels
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_PILLOW) as image:
                header = Header(str(image.format), image.mode, image.width, image.height)
                if image.width * image.height > MAX_PIXELS:
                    raise UnreadableImage(
                        f"The image has {image.width:,} × {image.height:,} pixels; "
                        f"at most {MAX_PIXELS:,} pixels are read. Reduce it and try again."
                    )
                image.draft("L", image.size)  # a JPEG's luma is stored as such: skip its colour
                # Pillow turns a TIFF whose 0 is white (tag 262, photometric interpretation) if it has 8 bits, but not of 16.
                inverted = header.mode.startswith("I") and getattr(image, "tag_v2", {}).get(262) == 0
                grey = _grey(ImageOps.exif_transpose(image))
                return header, 255 - grey if inverted else grey
    except UnreadableImage:
        raise
    except FileNotFoundError as error:
        raise UnreadableImage(f"There is no file {source!s}.") from error
    except IsADirectoryError as error:
        raise UnreadableImage(f"{source!s} is a folder; expected is an image file.") from error
    except Exception as error:  # a parser of untrusted bytes may raise anything: damaged files gave a TypeError too
        raise UnreadableImage(_why(source, error)) from error


def read(source: bytes | Path, *, frame: int = 0) -> Pixels:
    """The pixels of `decode` alone: uint8 (H, W)."""
    return decode(source, frame=frame)[1]


def count_frames(source: bytes | Path) -> int:
    """How many images a DICOM file holds; 1 of any other file, and of one that cannot be read."""
    return dicom.count_frames(source) if dicom.is_dicom(source) else 1


def colourfulness(source: bytes | Path) -> float:
    """How colourful an image file is, in [0, 1]: 0 for grey, for DICOM and for what cannot be read.

    A tint that goes with the grey value alone, as of a photographed film, counts a quarter.
    """
    if dicom.is_dicom(source):
        return 0.0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_PILLOW) as image:
                if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;"):
                    return 0.0
                if image.width * image.height > MAX_PIXELS:
                    return 0.0
                image.draft("RGB", (64, 64))
                small = image.convert("RGBA" if image.mode in ("P", "PA", "RGBA") else "RGB").resize(
                    (64, 64), Image.Resampling.BOX
                )
                values = np.asarray(small.convert("RGBA"), np.float32).reshape(-1, 4)
    except Exception:  # noqa: BLE001  # whatever a parser of untrusted bytes may raise: `decode` tells of it
        return 0.0
    return _colourful(values[values[:, 3] > 127, :3])


def _colourful(values: npt.NDArray[np.float32]) -> float:
    """Of float32 (n, 3), red, green and blue in 0..255."""
    if not len(values) or not (values[:, :2] != values[:, 1:]).any():  # every pixel grey, as of most X-rays
        return 0.0
    luma = values @ np.array([0.299, 0.587, 0.114], np.float32)
    away = np.stack([values[:, 2] - luma, values[:, 0] - luma], axis=1) * np.array([0.564, 0.713], np.float32) / 128
    level = np.clip(luma / 32, 0, 7).astype(np.int64)
    counts = np.maximum(np.bincount(level, minlength=8), 1)
    tints = np.stack([np.bincount(level, away[:, part], minlength=8) / counts for part in (0, 1)], axis=1)
    varied = np.hypot(*(away - tints[level]).T).mean()
    return float(np.clip(varied + np.hypot(*tints[level].T).mean() / 4, 0, 1))


def prepare(grey: Pixels, size: int) -> Pixels:
    """THE pre-processing: resize to a square, as the paper does (180 × 180), with an antialiased bilinear filter.

    Args:
        grey: uint8 (H, W).
        size: S, in pixels, at least 1.

    Returns:
        uint8 (S, S); the aspect ratio is not kept.
    """
    if grey.shape == (size, size):
        return grey
    return np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.BILINEAR))


def to_input(pixels: Pixels) -> npt.NDArray[np.float32]:
    """What a model takes: uint8 (N, S, S) to float32 (N, S, S, 3), three equal channels, still in 0..255."""
    return np.repeat(pixels[..., None], 3, axis=-1).astype(np.float32)


_JPEG_LUMINANCE = 3688  # sum of the standard's luminance table K.1 (ITU-T T.81), which libjpeg scales by the quality


def jpeg_quality(content: bytes) -> int:
    """The quality, 1 to 100, that libjpeg was given for this JPEG, judged by its luminance table; 0 for other files."""
    if not content.startswith(b"\xff\xd8"):
        return 0
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            table: Sequence[int] = getattr(image, "quantization", {}).get(0, ())
    except (OSError, ValueError, SyntaxError):
        return 0
    if len(table) != 64:
        return 0
    if sum(table) == 64:
        return 100
    scale = 100 * sum(table) / _JPEG_LUMINANCE  # libjpeg: 200 − 2q percent from quality 50 on, 5000 / q below
    return round(min(100.0, max(1.0, (200 - scale) / 2 if scale <= 100 else 5000 / scale)))


def encode(grey: Pixels, *, format: str = "JPEG", quality: int = 90) -> bytes:
    """A uint8 (H, W) array as the bytes of an image file, for screens and downloads."""
    out = io.BytesIO()
    Image.fromarray(grey).save(out, format=format, quality=quality)
    return out.getvalue()


def _grey(image: Image.Image) -> Pixels:
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        return _to_8_bit(np.asarray(image, dtype=np.float32))
    if image.mode in ("RGBA", "LA", "PA", "P") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return np.asarray(image.convert("L"))


def _to_8_bit(values: npt.NDArray[np.float32]) -> Pixels:
    """Grey of more than 8 bits: counts fill the smallest of 8, 10, 12, 14 and 16 bits that holds them; all else is stretched."""
    if not np.isfinite(values).all():
        raise ValueError("it holds pixels that are not numbers")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and 1 < high <= 65535:
        low, high = 0.0, next(top for top in (255.0, 1023.0, 4095.0, 16383.0, 65535.0) if high <= top)
    return np.clip((values - low) * (255.0 / max(high - low, 1e-6)) + 0.5, 0, 255).astype(np.uint8)


def _why(source: bytes | Path, error: Exception) -> str:
    name = "The file" if isinstance(source, bytes) else Path(source).name
    empty = (not source) if isinstance(source, bytes) else Path(source).is_file() and Path(source).stat().st_size == 0
    if empty:
        return f"{name} is empty. An image file was expected."
    if isinstance(error, UnidentifiedImageError):
        return f"{name} is not an image that can be read here. Expected: {', '.join(FORMATS)}."
    # Pillow counts the bytes that a truncated file lacks; nobody is helped by that.
    detail = "" if "truncated" in str(error) else f" ({error})"
    return f"{name} is damaged or cut short and could not be decoded{detail}."
