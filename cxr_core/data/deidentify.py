"""DICOM files without what tells who a patient is: what a dataset keeps of those that are brought into the workspace.

A copy holds the pixels as they were stored, what is needed to show them (group 0028 of the standard, without its texts), and the
codes that are shown beside an image (`dicom.HEADER_FIELDS`). Everything else is left out: names, ids, dates, places, comments,
overlays, private elements, and the preamble. What is burned into the pixels stays. The same file gives the same copy.
"""

import hashlib
import hmac
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxr_core import dicom, process, workspace
from cxr_core.data.progress import Progress, no_progress
from cxr_core.errors import UnreadableImage, stop_if_shortage

if TYPE_CHECKING:
    from pydicom import Dataset

_IMAGE_GROUP = 0x0028
_PIXEL_DATA = 0x7FE00010
_PLAIN = (
    "CS", "DS", "IS", "US", "SS", "UL", "SL", "FL", "FD", "OB", "OW", "AT", "US or SS", "US or OW", "US or SS or OW",
)  # fmt: skip  # value representations without free text
_ONE_PROCESS = 32  # up to so many files, starting more processes costs more than it saves


def deidentified(content: bytes, name: str = "The DICOM file") -> tuple[bytes, str]:
    """The copy of a DICOM file, and the key of its patient (`dicom.DicomHeader.patient_key`).

    Raises:
        UnreadableImage: it cannot be decoded, or its copy would show another image.
    """
    from pydicom import Dataset, dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import generate_uid

    header, grey = dicom.decode(content, name=name)
    original = dcmread(io.BytesIO(content))
    copy = _image_elements(original)
    copy.add(original[_PIXEL_DATA])
    copy.SOPClassUID = original.file_meta.get("MediaStorageSOPClassUID") or "1.2.840.10008.5.1.4.1.1.7"
    copy.SOPInstanceUID = generate_uid(entropy_srcs=[hashlib.sha256(original.PixelData).hexdigest()])
    for keyword, title in dicom.HEADER_FIELDS.items():
        if keyword not in copy and title in header.facts:
            setattr(copy, keyword, header.facts[title])
    copy.PatientName, copy.PatientID, copy.PatientIdentityRemoved = "", "", "YES"
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = original.file_meta.TransferSyntaxUID
    copy.file_meta.MediaStorageSOPClassUID = copy.SOPClassUID
    copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    out = io.BytesIO()
    try:
        assert isinstance(copy, Dataset)
        copy.save_as(out, enforce_file_format=True)
        same = np.array_equal(dicom.decode(out.getvalue(), name=name)[1], grey)
    except (ValueError, TypeError, AttributeError, KeyError, UnreadableImage) as error:
        stop_if_shortage(error, name)
        same = False
    if not same:
        raise UnreadableImage(
            f"{name} cannot be freed of what tells who the patient is without changing its image. Add a folder, which "
            "is read where it lies, or save the image in another format."
        )
    return out.getvalue(), header.patient_key


def _image_elements(dataset: "Dataset") -> "Dataset":
    """The elements of group 0028 without free text, those of its sequences too."""
    from pydicom import Dataset, Sequence

    kept = Dataset()
    for element in dataset.group_dataset(_IMAGE_GROUP):
        if element.VR == "SQ":
            items = Sequence([_image_elements(item) for item in element.value])
            kept.add_new(element.tag, "SQ", items)
        elif element.VR in _PLAIN:
            kept.add(element)
    return kept


def rewrite(root: Path, ids: Sequence[str], *, progress: Progress = no_progress) -> dict[str, tuple[str, str]]:
    """Replace the DICOM files among the images of a folder of the workspace by their copies.

    Args:
        root: the folder.
        ids: paths below it.
        progress: counts the DICOM files.

    Returns:
        For each of them, by its id: the key of its patient, and the reason why there is no copy, which is empty if there is one.
        A file without a copy is deleted.

    Raises:
        WorkFailed: disk or memory failed.
    """
    names = [name for name in ids if dicom.is_dicom(root / name)]
    outcomes: dict[str, tuple[str, str]] = {}
    paths = [root / name for name in names]

    def take(results: Iterator[tuple[str, str]]) -> None:
        for name, outcome in zip(names, results, strict=True):
            outcomes[name] = outcome
            progress("Removing what tells who the patients are", len(outcomes), len(names))

    if len(names) <= _ONE_PROCESS or process.cpu_count() == 1:
        take(map(_rewrite, paths))
    else:
        with process.process_pool() as pool:
            take(pool.map(_rewrite, paths, chunksize=8))
    return outcomes


def _rewrite(path: Path) -> tuple[str, str]:
    try:
        copy, patient = deidentified(workspace.read_bytes(path), path.name)
    except UnreadableImage as error:
        stop_if_shortage(error, str(path))
        with workspace.writing():
            path.unlink()
        return "", str(error)
    workspace.write_bytes(path, copy)
    return patient, ""


def key_id(secret: bytes) -> str:
    """Names a key of pseudonyms without telling it: 8 hexadecimal digits."""
    return hashlib.sha256(b"id of " + secret).hexdigest()[:8]


def pseudonym(patient: str, secret: bytes) -> str:
    """The pseudonym of a patient key in this workspace: equal for images of one patient, and found from no guessed id."""
    return f"dicom-{hmac.new(secret, patient.encode(), hashlib.sha256).hexdigest()[:12]}"
