"""What folder and file names say of an image: its class, and who is on it.

Kaggle      person1_bacteria_1.jpeg  person1_virus_6.jpeg  IM-0115-0001.jpeg  NORMAL2-IM-0246-0001-0002.jpeg
Mendeley    BACTERIA-1008087-0001.jpeg  VIRUS-…  NORMAL-1049278-0001.jpeg    (disease, patient, image of that patient)
NIH         00000013_005.png    (patient, study)
synthetic   synthetic-p0004-1.jpeg
"""

import re
from pathlib import PurePosixPath

_KAGGLE_PNEUMONIA = re.compile(r"person(?P<patient>\d+)_(?P<kind>bacteria|virus)", re.IGNORECASE)
_KAGGLE_NORMAL = re.compile(r"(?P<series>(?:NORMAL2-)?IM)-(?P<patient>\d+)-\d+(?:-\d+)?$", re.IGNORECASE)
_MENDELEY = re.compile(r"(?P<kind>bacteria|virus|normal)-(?P<patient>\d+)-\d+$", re.IGNORECASE)
_SYNTHETIC = re.compile(r"synthetic-p(?P<patient>\d+)-\d+$")
_NIH = re.compile(r"(?P<patient>\d{8})_\d{3}$")
_KINDS = {"bacteria": "bacterial", "virus": "viral", "bacterial": "bacterial", "viral": "viral"}


def label_of_folder(name: str) -> str:
    """The class that a folder stands for: '1_abnormal' is 'abnormal', 'VIRAL PNEUMONIA' and 'virus' are 'viral'."""
    plain = (re.sub(r"^\d+[_-]", "", name).strip() or name).lower()
    kind = re.sub(r"[\s_-]*pneumonia$", "", plain)
    return _KINDS.get(kind, plain)


def names_pneumonia_type(stem: str) -> bool:
    """Whether a file of a folder "pneumonia" says which kind it is."""
    return bool(_kind(stem))


def label_of_file(folder: str, stem: str) -> str:
    """The class of a file in the class folder `folder`; in "pneumonia" its name decides, "" if it does not say."""
    return _kind(stem) if folder == "pneumonia" else folder


def is_kermany_name(stem: str) -> bool:
    """Whether a file is named as in the set of Kermany, Zhang and Goldbaum, as Kaggle or Mendeley have it."""
    return any(pattern.search(stem) for pattern in (_KAGGLE_PNEUMONIA, _KAGGLE_NORMAL)) or bool(
        _MENDELEY.fullmatch(stem)
    )


def patient_key(path: str, label: str, split: str) -> str:
    """Who is on the image at `path` (below the dataset, forward slashes): equal for images of one person.

    Kaggle's numbers restart per kind, and again in the test split (train and val share theirs). Mendeley's are numbers of
    patients; nowhere is it written that they restart, so the same number is the same patient, in whatever split or class:
    where it is not, the audit reports one pair too many, which is better than one too few. Where a name says nothing, every
    file is a patient of its own. What a DICOM file says of its patient goes before all this (dicom.py).
    """
    stem = PurePosixPath(path).stem
    family = "test" if split == "test" else "train"
    if match := _KAGGLE_PNEUMONIA.search(stem):
        return f"{family}/{label}/{int(match['patient'])}"
    if match := _KAGGLE_NORMAL.search(stem):
        return f"{family}/{label}/{match['series'].upper()}-{int(match['patient'])}"
    if match := _MENDELEY.fullmatch(stem):
        return f"mendeley/{int(match['patient'])}"
    if match := _SYNTHETIC.fullmatch(stem):
        return f"{split}/{label}/{int(match['patient'])}"
    if match := _NIH.fullmatch(stem):
        return match["patient"]
    return path


def _kind(stem: str) -> str:
    match = _KAGGLE_PNEUMONIA.search(stem) or _MENDELEY.fullmatch(stem)
    return _KINDS.get(match["kind"].lower(), "") if match else ""
