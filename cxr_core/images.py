"""From any supported file to pixels: the one decoder and the one pre-processing of the project.

    bytes or path ── decode ──► DecodedImage, uint8 (H, W) ── prepare ──► uint8 (S, S) ── to_input ──► float32 (N, S, S, 3)

Packing, training, evaluation and live prediction all go through these functions, so a prediction on a screen sees the
very pixels that the evaluation saw. Each model does its own scaling inside its graph, from 0..255. A file is opened, parsed
and decoded once: whatever is asked of it later is in its `DecodedImage`.
"""

import io
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from cxr_core import dicom, jpeg, memory_budget
from cxr_core.dicom import DicomHeader
from cxr_core.errors import TooManyPixels, UnreadableImage

Pixels = npt.NDArray[np.uint8]

_PILLOW = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
FORMATS = (*_PILLOW, "DICOM")
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom")
MAX_PIXELS = 100_000_000  # four times the largest clinical detector (about 5,000 x 5,000)
Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is checked on the header instead, with a sentence that gives the size


@dataclass(frozen=True)
class Header:
    """Statements of a file about itself.

    Attributes:
        format: one of FORMATS.
        mode: Pillow's ("L", "RGB", "RGBA", "I;16", …), or the photometric interpretation of a DICOM file.
        width, height: in pixels, as stored: before EXIF rotation.
        quality: of a JPEG, 1 to 100, as libjpeg was given it, estimated from the luminance table; 0 of other files.
    """

    format: str
    mode: str
    width: int
    height: int
    quality: int = 0


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image file, decoded once.

    Attributes:
        grey: uint8 (H, W) in 0..255, upright; of a reduced image (see `reduce`) smaller.
        header: its format is "" if the pixels come from no file.
        colourfulness: in [0, 1]; 0 for grey and for DICOM. A tint that depends on the grey value alone, as of a photographed
            film, counts a quarter.
        dicom: of a DICOM file.
        frame: which image of a DICOM file with several it is, as it was chosen; None: nobody chose, and it is the first.
        whole_shape: height and width of the whole image, if `grey` is reduced.
        prepared: the whole image as `prepare` makes it, by size.
    """

    grey: Pixels
    header: Header = Header("", "L", 0, 0)
    colourfulness: float = 0.0
    dicom: DicomHeader | None = None
    frame: int | None = None
    whole_shape: tuple[int, int] | None = None
    prepared: Mapping[int, Pixels] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the whole image."""
        height, width = self.whole_shape or self.grey.shape
        return height, width

    @property
    def frames(self) -> int:
        """Number of images that the file holds; more than one only in DICOM."""
        return self.dicom.frames if self.dicom else 1


def decode(source: bytes | Path, *, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode an image file to grey, with all that its header and its colours tell.

    Colour becomes luma (ITU-R 601-2), transparency is laid over black, EXIF rotation is applied, 12- and 16-bit greys
    are scaled to 8 bit, and of several pages the first is taken. Of DICOM see dicom.py.

    Args:
        source: the file's bytes, or its path.
        frame: which image of a DICOM file with several, from 0; by default the first.
        max_pixels: upper limit, told by the header before anything is decoded.

    Raises:
        TooManyPixels: beyond max_pixels.
        UnreadableImage: not one of FORMATS, damaged or truncated, or in more parts (scans, tiles) than are read.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            is_dicom = dicom.is_dicom(file.read(dicom.MARK_END))
            file.seek(0)
            if is_dicom:
                header, grey = dicom.decode(
                    file.read(), name=_name(source, "The DICOM file"), max_pixels=max_pixels, frame=frame or 0
                )
                general = Header("DICOM", header.photometric, *grey.shape[::-1])
                return DecodedImage(grey, general, dicom=header, frame=frame)
            if frame:
                raise UnreadableImage(
                    f"{_name(source, 'The file')} is no DICOM file: it has one image, number 0. Received: frame {frame}."
                )
            return _decode_with_pillow(file, max_pixels)
    except UnreadableImage:
        raise
    except FileNotFoundError as error:
        raise UnreadableImage(f"There is no file {source!s}.") from error
    except IsADirectoryError as error:
        raise UnreadableImage(f"{source!s} is a folder; expected is an image file.") from error
    except Exception as error:  # a parser of untrusted bytes may raise anything: damaged files gave a TypeError too
        if isinstance(error, OSError) and error.errno:
            raise UnreadableImage(f"{_name(source, 'The file')} could not be read ({error.strerror}).") from error
        raise UnreadableImage(_why(source, error)) from error


def read(source: bytes | Path) -> Pixels:
    """The pixels of `decode` alone: uint8 (H, W)."""
    return decode(source).grey


def _decode_with_pillow(file: BinaryIO, max_pixels: int) -> DecodedImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata; what matters here is whether there are pixels
        with Image.open(file, formats=_PILLOW) as image:
            header = Header(str(image.format), image.mode, image.width, image.height, _jpeg_quality(image))
            _check_tiles(image)
            _check_scans(image, file)
            if image.width * image.height > max_pixels:
                raise TooManyPixels(image.width, image.height, max_pixels)
            with memory_budget.reserve(image.width * image.height):
                if _stores_luma(image):
                    image.draft("YCbCr", image.size)  # luma as it is stored, and the colours beside it
                # Pillow turns a TIFF whose 0 is white (tag 262, photometric interpretation) if it has 8 bits, but not of 16.
                inverted = header.mode.startswith("I") and getattr(image, "tag_v2", {}).get(262) == 0
                image.load()
                colourfulness = _colourfulness(image)
                grey = _grey(image)
                if (turn := _TURNS.get(image.getexif().get(_ORIENTATION, 1))) is not None:
                    grey = np.asarray(Image.fromarray(grey).transpose(turn))
            return DecodedImage(255 - grey if inverted else grey, header, colourfulness)


_COLOUR_SIDE = 64  # pixels; that many on each side tell how colourful an image is
_NO_CHROMA = 128
_ORIENTATION = 0x0112  # CIPA DC-008
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip  # that make an image of this orientation upright
_STRIP_PIXELS = 2**22  # converted at once: a large image takes little more memory than its pixels
_MAX_TILE_EXCESS = 16  # a tile of a TIFF has at most so many times the pixels of the image, or of 1024 × 1024
_MAX_TILES = 100_000  # of a TIFF, strips included; 10,000 × 10,000 pixels are 1,600 usual tiles, or 10,000 strips
_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # TIFF 6.0, section 15
_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324


def _check_scans(image: Image.Image, file: BinaryIO) -> None:
    """Refuse a JPEG of so many scans that decoding takes minutes: each goes over the whole image."""
    if not isinstance(image, JpegImageFile):
        return
    at = file.tell()
    file.seek(0)
    if jpeg.has_too_many_scans(file.read()):
        raise UnreadableImage(
            f"The JPEG has more than {jpeg.MAX_SCANS} scans, which are not read. Save it anew and try again."
        )
    file.seek(at)


def _check_tiles(image: Image.Image) -> None:
    """Refuse a TIFF whose tiles are far larger than its image, since each is decoded whole, or far too many."""
    tags = getattr(image, "tag_v2", {})
    width, height = int(tags.get(_TILE_WIDTH, 0)), int(tags.get(_TILE_HEIGHT, 0))
    tile = width * height
    count = math.ceil(image.width / width) * math.ceil(image.height / height) if tile > 0 else 0
    listed = [np.size(tags[offsets]) for offsets in (_STRIP_OFFSETS, _TILE_OFFSETS) if offsets in tags]
    if max(count, *listed, 0) > _MAX_TILES:
        raise UnreadableImage(
            f"The TIFF is stored in more than {_MAX_TILES:,} parts, which are not read. Save it anew and try again."
        )
    if tile > _MAX_TILE_EXCESS * max(image.width * image.height, 2**20):
        raise UnreadableImage(
            f"The TIFF has {image.width:,} × {image.height:,} pixels in tiles of {tile:,} pixels each, which does not fit. "
            "Save it anew and try again."
        )


def _stores_luma(image: Image.Image) -> bool:
    """True if a JPEG of three components stores luma and chroma, by libjpeg's rules (jdapimin.c, default_decompress_parms)."""
    if not isinstance(image, JpegImageFile) or image.mode != "RGB":
        return False
    if "jfif" in image.info:
        return True
    if "adobe" in image.info:
        return image.info.get("adobe_transform") != 0
    return bytes(component[0] for component in image.layer) != b"RGB"


def _colourfulness(image: Image.Image) -> float:
    """Of a decoded image, in [0, 1]; see DecodedImage."""
    if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;"):
        return 0.0
    factor = min(16, max(1, min(image.size) // _COLOUR_SIDE))
    if image.mode in ("RGB", "RGBA", "YCbCr"):
        small = image.reduce(factor)
    else:
        mode = "RGBA" if image.mode in ("P", "PA") else "RGB"
        small = Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
        for top, strip in _strips(image, factor):
            small.paste(strip.convert(mode).reduce(factor), (0, top // factor))
    if small.mode == "YCbCr" and (np.asarray(small)[..., 1:] == _NO_CHROMA).all():  # as of most X-rays
        return 0.0
    small = small.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)
    values = np.asarray((small.convert("RGB") if small.mode == "YCbCr" else small).convert("RGBA"), np.float32)
    values = values.reshape(-1, 4)
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


def reduce(image: DecodedImage, sizes: Iterable[int], *, longest: int | None = None) -> DecodedImage:
    """Prepare an image in the sizes that are asked for, and let its full resolution go.

    Args:
        sizes: in pixels, as of `prepare`.
        longest: side in pixels that `grey` has at most, for a screen; None leaves it whole, and 0 replaces it by the largest
            prepared image.
    """
    prepared = {size: prepare(image.grey, size) for size in sizes}
    grey = image.grey
    if longest == 0 and prepared:
        grey = prepared[max(prepared)]
    elif longest and max(grey.shape) > longest:
        preview = Image.fromarray(grey)
        preview.thumbnail((longest, longest))
        grey = np.asarray(preview)
    return replace(image, grey=grey, whole_shape=image.shape, prepared=prepared)


def to_input(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Convert to the input of a model: uint8 (N, S, S) to float32 (N, S, S, 3), three equal channels, still in 0..255."""
    return np.repeat(pixels[..., None], 3, axis=-1).astype(np.float32)


_JPEG_LUMINANCE = 3688  # sum of the standard's luminance table K.1 (ITU-T T.81), which libjpeg scales by the quality


def _jpeg_quality(image: Image.Image) -> int:
    """The quality, 1 to 100, that libjpeg was given, estimated from the luminance table; 0 if it is no JPEG."""
    table = image.quantization.get(0, ()) if isinstance(image, JpegImageFile) else ()
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


def _strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Top row and image of horizontal strips of about _STRIP_PIXELS, whose heights are multiples of a number of rows."""
    rows = max(1, _STRIP_PIXELS // image.width // multiple) * multiple
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _grey(image: Image.Image) -> Pixels:
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        return _to_8_bit(image)
    if image.mode == "YCbCr":
        return np.asarray(image.getchannel("Y"))
    if image.mode not in ("RGBA", "LA", "PA", "P") and "transparency" not in image.info:
        return np.asarray(image.convert("L"))
    grey = np.empty((image.height, image.width), np.uint8)
    for top, strip in _strips(image):
        black = Image.new("RGBA", strip.size, (0, 0, 0, 255))
        grey[top : top + strip.height] = np.asarray(Image.alpha_composite(black, strip.convert("RGBA")).convert("L"))
    return grey


def _to_8_bit(image: Image.Image) -> Pixels:
    """Grey of more than 8 bits: counts fill the smallest of 8, 10, 12, 14 and 16 bits that holds them; all else is stretched."""
    low, high = np.inf, -np.inf
    for _, strip in _strips(image):
        values = np.asarray(strip, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it holds pixels that are not numbers")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low >= 0 and 1 < high <= 65535:
        low, high = 0.0, next(top for top in (255.0, 1023.0, 4095.0, 16383.0, 65535.0) if high <= top)
    grey = np.empty((image.height, image.width), np.uint8)
    for top, strip in _strips(image):
        values = np.asarray(strip, dtype=np.float32)
        scaled = (values - low) * (255.0 / max(high - low, 1e-6)) + 0.5
        grey[top : top + strip.height] = np.clip(scaled, 0, 255, out=scaled)
    return grey


def _why(source: bytes | Path, error: Exception) -> str:
    name = _name(source, "The file")
    empty = (not source) if isinstance(source, bytes) else Path(source).is_file() and Path(source).stat().st_size == 0
    if empty:
        return f"{name} is empty. An image file was expected."
    if isinstance(error, UnidentifiedImageError):
        return f"{name} is not an image that can be read here. Expected: {', '.join(FORMATS)}."
    # Pillow counts the bytes that a truncated file lacks, which helps nobody, or quotes bytes of the file, which may be secret.
    detail = "" if "truncated" in str(error) or "b'" in str(error) or 'b"' in str(error) else f" ({error})"
    return f"{name} is damaged or cut short and could not be decoded{detail}."


def _name(source: bytes | Path, otherwise: str) -> str:
    return otherwise if isinstance(source, bytes) else source.name
