"""DICOM files, as X-ray machines write them: to grey pixels as a viewer would show them.

Only single elements are ever read out; nothing of who the patient is leaves this module.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxr_core.errors import UnreadableImage

if TYPE_CHECKING:
    from pydicom import Dataset

Pixels = npt.NDArray[np.uint8]

MOST_FRAMES = 1000
FACTS = {
    "Modality": "Modality",
    "BodyPartExamined": "Body part",
    "ViewPosition": "View",
    "PhotometricInterpretation": "Grey scale",
    "PixelSpacing": "Pixel spacing, mm",
    "BitsStored": "Bits",
}
"""The elements that may be shown, with their titles: none of them tells who the patient is."""

_DEFLATED = "1.2.840.10008.1.2.1.99"


def is_dicom(source: bytes | Path) -> bool:
    """Whether the content says that it is DICOM: "DICM" after a preamble of 128 bytes."""
    if isinstance(source, bytes):
        return source[128:132] == b"DICM"
    try:
        with source.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read(source: bytes | Path, *, max_pixels: int, frame: int = 0) -> tuple[str, Pixels]:
    """Decode one frame to grey.

    Rescale slope, window (the first, or the lookup table) and MONOCHROME1 are applied; without a window the grey range is
    that of the values. Colour becomes luma (ITU-R 601-2).

    Args:
        source: the file's bytes, or its path.
        max_pixels: at most so many per frame.
        frame: which of several, from 0.

    Returns:
        The photometric interpretation, and uint8 (H, W) in 0..255, black for air.

    Raises:
        UnreadableImage: damaged, too large, no pixels, no such frame, or compressed in a way that cannot be read here.
    """
    name = "The DICOM file" if isinstance(source, bytes) else source.name
    with _told(name):
        dataset = _dataset(name, source.read_bytes() if isinstance(source, Path) else source)
        frames = _check(name, dataset, max_pixels)
        if not 0 <= frame < frames:
            raise UnreadableImage(f"{name} has {frames} frames, counted from 0. Received: {frame}.")
        photometric = str(dataset.PhotometricInterpretation)
        return photometric, _grey(name, dataset, photometric, frame)


def facts(source: bytes | Path) -> dict[str, str]:
    """What may be shown beside the image: title of FACTS to text; empty values are left out.

    Raises:
        UnreadableImage: damaged.
    """
    name = "The DICOM file" if isinstance(source, bytes) else source.name
    with _told(name):
        dataset = _dataset(name, source.read_bytes() if isinstance(source, Path) else source)
        found = {title: dataset.get(keyword) for keyword, title in FACTS.items()}
        return {title: str(value) for title, value in found.items() if value not in (None, "")}


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turns whatever a parser of untrusted bytes may raise into words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd elements; what matters here is whether there are pixels
            yield
    except UnreadableImage:
        raise
    except Exception as error:
        raise UnreadableImage(
            f"{name} is damaged or cut short and could not be decoded as DICOM ({str(error)[:200]})."
        ) from error


def _dataset(name: str, content: bytes) -> "Dataset":
    from pydicom import dcmread
    from pydicom.filereader import read_dataset, read_preamble

    stream = BytesIO(content)
    read_preamble(stream, False)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _, __: tag.group != 2)
    if str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:  # unpacked without any limit by whoever reads it
        raise UnreadableImage(f"{name} is deflated, which is not read here. Save it uncompressed and try again.")
    return dcmread(BytesIO(content))


def _check(name: str, dataset: "Dataset", max_pixels: int) -> int:
    """The number of frames."""
    if "PixelData" not in dataset:
        raise UnreadableImage(f"{name} holds no image (no pixel data): a report, or the index of a disc.")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if rows * columns > max_pixels:
        raise UnreadableImage(
            f"The image has {columns:,} × {rows:,} pixels; at most {max_pixels:,} pixels are read. Reduce it and try again."
        )
    if rows * columns < 1 or not 1 <= frames <= MOST_FRAMES:
        raise UnreadableImage(
            f"{name} says that it has {frames:,} frames of {columns:,} × {rows:,} pixels. Expected: 1 to {MOST_FRAMES:,} frames."
        )
    return frames


def _grey(name: str, dataset: "Dataset", photometric: str, frame: int) -> Pixels:
    values = _values(name, dataset, frame)
    if photometric == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        values = apply_color_lut(values, dataset)
    if values.ndim == 3:
        deep = values.dtype != np.uint8
        colour = _stretched(values.astype(np.float64)) if deep else values
        return np.asarray(Image.fromarray(colour[..., :3]).convert("L"))
    grey = _windowed(dataset, values)
    return 255 - grey if photometric == "MONOCHROME1" else grey


def _values(name: str, dataset: "Dataset", frame: int) -> npt.NDArray[Any]:
    from pydicom.pixels import pixel_array

    try:
        values: npt.NDArray[Any] = pixel_array(dataset, index=frame)
    except (RuntimeError, NotImplementedError) as error:
        syntax = dataset.file_meta.TransferSyntaxUID
        raise UnreadableImage(
            f"{name} is compressed as {syntax.name}, and no decoder for it is installed ({error}). Save it uncompressed, or "
            "install pylibjpeg, pylibjpeg-libjpeg and pylibjpeg-openjpeg."
        ) from error
    return values


def _windowed(dataset: "Dataset", values: npt.NDArray[Any]) -> Pixels:
    """Grey values as the file's own window or table shows them, uint8."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    rescaled = apply_modality_lut(values, dataset)
    if "VOILUTSequence" in dataset:
        shown = apply_voi_lut(rescaled, dataset, index=0).astype(np.float64)
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return _stretched(shown, 0.0, float(2**bits - 1))
    if dataset.get("WindowCenter") not in (None, "") and dataset.get("WindowWidth") not in (None, ""):
        centre, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
        if width > 0:  # a linear ramp; pydicom's sigmoid and exact variants differ by less than a grey step here
            return _stretched(np.asarray(rescaled, dtype=np.float64), centre - width / 2, centre + width / 2)
    return _stretched(np.asarray(rescaled, dtype=np.float64))


def _first(value: Any) -> float:
    """Windows may be several; the first is the one to start with."""
    return float(value[0]) if hasattr(value, "__len__") and not isinstance(value, str) else float(value)


def _stretched(values: npt.NDArray[np.float64], low: float | None = None, high: float | None = None) -> Pixels:
    """`low` becomes 0 and `high` 255, by default the least and the greatest value."""
    start, end = float(values.min()) if low is None else low, float(values.max()) if high is None else high
    scale = 255.0 / max(end - start, 1e-9)
    return np.clip((values - start) * scale + 0.5, 0, 255).astype(np.uint8)
