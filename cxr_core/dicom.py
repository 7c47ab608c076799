"""DICOM files of radiography (CR, DX): from the bytes to the grey that the maker of the image meant to be seen.

    stored values ── modality LUT or rescale ──► VOI LUT or window ──► MONOCHROME1 inverted ──► uint8 (H, W)

A file is parsed once, and its header is checked before anything is inflated or decoded: a few bytes cannot ask for
gigabytes. The steps are those of DICOM PS3.3 C.11.1 and C.11.2; with at most 16 bits they are computed once for each value
that a pixel can have, as a lookup table. No text of the file goes into a message, and `DicomHeader` holds technical elements
only; of who the patient is only a hash leaves this module.
"""

import hashlib
import io
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxr_core import jpeg, memory_budget
from cxr_core.errors import TooManyPixels, UnreadableImage

if TYPE_CHECKING:  # pydicom is imported when the first DICOM file comes
    from pydicom import Dataset

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]

MARK_END = 132  # bytes: a preamble of 128, and "DICM"
MAX_FRAMES = 1000
MAX_BITS = 16
GREYS = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
HEADER_FIELDS = {
    "Modality": "Modality",
    "BodyPartExamined": "Body part",
    "ViewPosition": "View",
    "PhotometricInterpretation": "Grey scale",
    "PixelSpacing": "Pixel spacing, mm",
    "Rows": "Rows",
    "Columns": "Columns",
    "BitsStored": "Bits",
}
"""The elements that may be shown, with their titles: none of them tells who the patient is."""

_NOBODY = (
    "",
    "anon",
    "anonymous",
    "anonymized",
    "anonymised",
    "deidentified",
    "unknown",
    "none",
    "na",
    "patient",
    "removed",
)
_DEFLATED = "1.2.840.10008.1.2.1.99"
_JPEG_12 = "1.2.840.10008.1.2.4.51"
_RLE = "1.2.840.10008.1.2.5"


def is_dicom(source: bytes | Path) -> bool:
    """True if the content says that it is DICOM: "DICM" after a preamble of 128 bytes."""
    if isinstance(source, bytes):
        return source[128:MARK_END] == b"DICM"
    try:
        with source.open("rb") as file:
            return file.read(MARK_END)[128:] == b"DICM"
    except OSError:
        return False


def is_nameless(name: str) -> bool:
    """True if a file is named as on a hospital's disc: without an ending, or by its UID ("1.2.840.113619").

    DICOMDIR, the disc's table of contents, is none of its images.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    return (not path.suffix or path.suffix[1:].isdigit()) and path.name.upper() != "DICOMDIR"


@dataclass(frozen=True)
class DicomHeader:
    """Facts of a DICOM file that may be shown.

    Attributes:
        photometric: the photometric interpretation, one of GREYS or COLOURS.
        frames: how many images it holds, 1 to MOST_FRAMES.
        facts: title of FACTS to text, to be shown beside the image; empty values are left out. Codes are kept only if they
            look like codes (PS3.5: up to 16 letters, digits, spaces and underscores), so that nothing else that someone has
            typed into them is shown.
        patient_key: `dicom-` and 12 hexadecimal digits of the SHA-256 of the Patient ID: equal for images of one patient. ""
            where there is no Patient ID, or one that anonymisers give to everybody. The hash is plain, so that it is the same
            on every machine; with it, anyone who knows or guesses a Patient ID can tell whether that patient is among the
            images. It is a pseudonym, not anonymity: do not publish an index of images that are not public.
    """

    photometric: str
    frames: int = 1
    facts: Mapping[str, str] = field(default_factory=dict)
    patient_key: str = ""


def decode(
    content: bytes, *, name: str = "The DICOM file", max_pixels: int = 100_000_000, frame: int = 0
) -> tuple[DicomHeader, Pixels]:
    """Parse a DICOM file and decode one frame to grey.

    A VOI LUT goes before a window; of several the first is taken; where there is neither, the full range of the
    stored bits is shown. Colour becomes luma (ITU-R 601-2).

    Args:
        name: of the file, for messages.
        max_pixels: upper limit for a frame.
        frame: which of several, from 0.

    Returns:
        The header, and uint8 (H, W) in 0..255.

    Raises:
        TooManyPixels: beyond max_pixels.
        UnreadableImage: not DICOM, damaged, no pixels, no such frame, or compressed in a way that cannot be
            read here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd elements; what matters here is whether there are pixels
            dataset = _dataset(name, content)
            photometric = _accepted(name, dataset, max_pixels, frame)
            _decodable(name, dataset, frame)
            header = DicomHeader(
                photometric, int(dataset.get("NumberOfFrames") or 1), _facts(dataset), _patient_key(dataset)
            )
            from pydicom.pixels import pixel_array

            with memory_budget.reserve(int(dataset.Rows) * int(dataset.Columns)):
                stored = pixel_array(dataset, index=frame)
                if photometric in GREYS:
                    return header, _toned(stored, dataset, inverted=photometric == "MONOCHROME1")
                return header, np.asarray(Image.fromarray(stored).convert("L"))
    except UnreadableImage:
        raise
    except Exception as error:  # its text may quote the file, and with it the patient: it is not passed on
        raise UnreadableImage(f"{name} is damaged or cut short and could not be decoded as DICOM.") from error


def _facts(dataset: "Dataset") -> dict[str, str]:
    facts = {title: _fact(dataset.get(keyword)) for keyword, title in HEADER_FIELDS.items()}
    return {title: text for title, text in facts.items() if text}


def _patient_key(dataset: "Dataset") -> str:
    patient = str(dataset.get("PatientID") or "").strip()
    if re.sub(r"[\W_]", "", patient).lower() in _NOBODY or not patient.strip("0 -_."):
        return ""
    return f"dicom-{hashlib.sha256(patient.encode()).hexdigest()[:12]}"


def _dataset(name: str, content: bytes) -> "Dataset":
    from pydicom import dcmread
    from pydicom.filereader import _read_file_meta_info

    if not is_dicom(content):
        raise UnreadableImage(f"{name} is not a DICOM file: the mark 'DICM' was expected at its byte 128.")
    file = io.BytesIO(content)
    file.seek(MARK_END)
    syntax = _read_file_meta_info(file).get("TransferSyntaxUID")  # as dcmread reads it, so that both find the same
    if syntax is None:
        raise UnreadableImage(f"{name} does not tell its transfer syntax, so that its pixels cannot be decoded.")
    if syntax == _DEFLATED:  # its reader would unpack it without any limit
        raise UnreadableImage(f"{name} is deflated, which is not read here. Save it uncompressed and try again.")
    file.seek(0)
    return dcmread(file)


def _accepted(name: str, dataset: "Dataset", max_pixels: int, frame: int) -> str:
    """The photometric interpretation, if the header asks for nothing that is beyond the limits."""
    if "PixelData" not in dataset:
        raise UnreadableImage(f"{name} holds no image (no pixel data): a report, the index of a disc, or cut short.")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if rows * columns > max_pixels:
        raise TooManyPixels(columns, rows, max_pixels)
    if rows * columns < 1 or not 1 <= frames <= MAX_FRAMES:
        raise UnreadableImage(
            f"{name} says that it has {frames:,} frames of {columns:,} × {rows:,} pixels. Expected: 1 to {MAX_FRAMES:,} frames."
        )
    if not 0 <= frame < frames:
        raise UnreadableImage(f"{name} has {frames} frames, counted from 0. Received: {frame}.")
    photometric = str(dataset.PhotometricInterpretation)
    samples, bits = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    if photometric not in GREYS + COLOURS or samples != (1 if photometric in GREYS else 3):
        raise UnreadableImage(
            f"{name} has pixels of a kind that is not read here. Expected: {', '.join(GREYS + COLOURS)}."
        )
    if bits > (MAX_BITS if photometric in GREYS else 8):
        raise UnreadableImage(
            f"{name} has {bits} bits for each {photometric} sample; at most {MAX_BITS} are read in grey and 8 in colour."
        )
    return photometric


def _decodable(name: str, dataset: "Dataset", frame: int) -> None:
    """Refuse what there is no decoder for, and a compressed frame that would become larger than its header tells."""
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder
    from pydicom.pixels.utils import as_pixel_options

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UnreadableImage(
            f"{name} is compressed in a way that is not read here (transfer syntax {_fact(syntax.name) or 'unknown'}). "
            "Save it uncompressed and try again."
        ) from None
    if not syntax.is_encapsulated:
        return
    plugins = set(decoder.available_plugins)
    if syntax == _JPEG_12 and int(dataset.BitsStored) > 8:
        plugins.discard("pillow")  # it announces this transfer syntax, and then reads 8 bits only
    if not plugins:
        raise UnreadableImage(
            f"{name} is compressed as {syntax.name}, and no decoder for it is installed. Save it uncompressed, or "
            "install pylibjpeg, pylibjpeg-libjpeg (GPL-3) and pylibjpeg-openjpeg."
        )
    options = as_pixel_options(dataset)
    count, offsets = options["number_of_frames"], options.get("extended_offsets")
    coded = get_frame(dataset.PixelData, frame, number_of_frames=count, extended_offsets=offsets)
    size = (int(dataset.Columns), int(dataset.Rows), int(dataset.SamplesPerPixel))
    if syntax == _RLE:
        fits = len(coded) <= 2 * size[0] * size[1] * size[2] * int(dataset.BitsAllocated) // 8 + 1024
    else:
        fits = (jpeg.sizes(coded) if coded.startswith(b"\xff\xd8") else _jpeg_2000_sizes(coded)) == {size}
    if not fits:
        raise UnreadableImage(f"{name} is damaged: its compressed image is not of the size that its header tells.")
    if coded.startswith(b"\xff\xd8") and jpeg.has_too_many_scans(coded):
        raise UnreadableImage(
            f"{name} holds a JPEG of more than {jpeg.MAX_SCANS} scans, which are not read. Save it anew."
        )


def _jpeg_2000_sizes(coded: bytes) -> set[tuple[int, int, int]]:
    """(columns, rows, samples) in the SIZ segment (ITU-T T.800 A.5.1), and in the box around it if any (I.5.3.1)."""
    start = coded.find(b"\xff\x4f\xff\x51")
    if start < 0:
        return set()
    right, bottom, left, top = struct.unpack_from(">4I", coded, start + 8)
    sizes = {(right - left, bottom - top, int.from_bytes(coded[start + 40 : start + 42], "big"))}
    box = coded.find(b"ihdr", 0, start)
    if box >= 0:
        rows, columns, samples = struct.unpack_from(">IIH", coded, box + 4)
        sizes.add((columns, rows, samples))
    return sizes


def _toned(stored: npt.NDArray[Any], dataset: "Dataset", *, inverted: bool) -> Pixels:
    """Stored values, (H, W) of 8 or 16 bits, signed or not, to uint8 (H, W)."""
    unsigned = np.dtype(f"u{stored.dtype.itemsize}")
    every = np.arange(1 << 8 * unsigned.itemsize, dtype=unsigned).view(stored.dtype).astype(np.float64)
    bits = int(dataset.BitsStored)
    low = -(1 << bits - 1) if stored.dtype.kind == "i" else 0
    shade = _windowed(*_rescaled(every, low, low + (1 << bits) - 1, dataset), dataset)
    table = ((1.0 - shade if inverted else shade) * 255 + 0.5).astype(np.uint8)
    return table[stored.view(unsigned)]


def _rescaled(values: Values, low: float, high: float, dataset: "Dataset") -> tuple[Values, float, float]:
    """The modality LUT or rescale (PS3.3 C.11.1): the new values, and the range that the stored bits can take there."""
    if dataset.get("ModalityLUTSequence"):
        looked_up, top = _looked_up(values, dataset.ModalityLUTSequence[0], dataset)
        return looked_up, 0.0, top
    slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
    if not slope or not np.isfinite([slope, intercept]).all():
        raise ValueError("a rescale that leaves nothing to see")
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return values * slope + intercept, ends[0], ends[1]


def _windowed(values: Values, low: float, high: float, dataset: "Dataset") -> Values:
    """The first VOI LUT, else the first window, else all from low to high (PS3.3 C.11.2): 0 is black, 1 is white."""
    if dataset.get("VOILUTSequence"):
        looked_up, top = _looked_up(values, dataset.VOILUTSequence[0], dataset)
        return looked_up / top
    center, width = _number(dataset, "WindowCenter", np.nan), _number(dataset, "WindowWidth", np.nan)
    if not np.isfinite([center, width]).all() or width <= 0:  # a width of 0 is how some devices write "none"
        return np.clip((values - low) / (high - low), 0, 1)
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, max(width - 1, 1e-6)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _looked_up(values: Values, item: "Dataset", dataset: "Dataset") -> tuple[Values, float]:
    """A modality or VOI LUT applied, and the largest value that its entries can have (PS3.3 C.11.1.1.1).

    Not by pydicom: its 8-bit tables of more than 256 entries wrap around (3.0.2).
    """
    entries, first, bits = (int(value) for value in item.LUTDescriptor)
    if not 1 <= bits <= MAX_BITS:
        raise ValueError("entries of an impossible depth")
    data = item.LUTData
    if isinstance(data, bytes):
        packed = bits == 8 and len(data) in (entries, entries + 1)
        data = np.frombuffer(data, "u1" if packed else "<u2" if dataset.original_encoding[1] else ">u2")
    table = np.atleast_1d(np.asarray(data, np.float64))[: entries or 65536]
    top = float((1 << bits) - 1)
    entry = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.intp)
    return np.clip(table[entry], 0, top), top


def _number(dataset: "Dataset", keyword: str, default: float) -> float:
    """The first value of an element, or the default where there is none."""
    value = dataset.get(keyword)
    if value is not None and not isinstance(value, (str, float, int)):
        value = value[0] if len(value) else None
    return default if value is None or value == "" else float(value)


def _fact(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (int, str)):
        text = str(value).strip()
        return text if re.fullmatch(r"[A-Za-z0-9_ ]{1,16}", text) else ""
    return " × ".join(f"{float(part):g}" for part in value)
