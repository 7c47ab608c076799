"""Recognise the layout of a folder of images: which file is of which split, class and patient.

Folders     any tree of split/class/image at any depth; without split folders all images are in train
Kaggle      person1_bacteria_1.jpeg  person1_virus_6.jpeg  IM-0115-0001.jpeg  NORMAL2-IM-0246-0001-0002.jpeg
Mendeley    BACTERIA-1008087-0001.jpeg  VIRUS-…  NORMAL-1049278-0001.jpeg    (disease, patient, image of that patient)
NIH         00000013_005.png    (patient, study); with NIH's table of findings, see nih.py
synthetic   synthetic-p0004-1.jpeg
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cxr_core.data import allowed_paths
from cxr_core.data.image_files import outward_links, subfolders, walk
from cxr_core.data.index import SPLITS
from cxr_core.data.sources import kaggle, nih
from cxr_core.errors import BadDataset
from cxr_core.images import SUFFIXES

_SPLIT_OF_FOLDER = {"training": "train", "valid": "val", "validation": "val", **{split: split for split in SPLITS}}
_CLASS_ORDER = ("normal", "viral", "bacterial", "pneumonia", "abnormal")
_CLASS_OF_WORD = {"bacteria": "bacterial", "virus": "viral", "bacterial": "bacterial", "viral": "viral"}
_EXPECTED = "a tree such as train/NORMAL/a.jpeg, train/PNEUMONIA/person1_virus_6.jpeg, test/NORMAL/b.jpeg"

_KAGGLE_PNEUMONIA = re.compile(r"person(?P<patient>\d+)_(?P<kind>bacteria|virus)", re.IGNORECASE)
_KAGGLE_NORMAL = re.compile(r"(?P<series>(?:NORMAL2-)?IM)-(?P<patient>\d+)-\d+(?:-\d+)?$", re.IGNORECASE)
_MENDELEY = re.compile(r"(?P<kind>bacteria|virus|normal)-(?P<patient>\d+)-\d+$", re.IGNORECASE)
_SYNTHETIC = re.compile(r"synthetic-p(?P<patient>\d+)-\d+$")
_NIH = re.compile(r"(?P<patient>\d{8})_\d{3}$")
_NIH_PART = re.compile(r"images(_\d+)?")


@dataclass(frozen=True)
class ImageFile:
    """One image file of a folder. `id` is its path below the root, with forward slashes."""

    id: str
    split: str
    label: str
    patient: str


@dataclass(frozen=True)
class ImageListing:
    """The images of a folder, sorted by split, class, id; `skipped` lists (file, reason) of those that have no class."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    skipped: tuple[tuple[str, str], ...]
    citation: str = ""


def list_images(
    root: Path,
    *,
    labels: str = "",
    findings: Mapping[str, Sequence[str]] | None = None,
    fewest_classes: int = 2,
) -> ImageListing:
    """List the images of a folder: NIH's, with its table of findings, or a tree of `split/class/image` at any depth.

    Splits are folders called train, val, test (or training, valid, validation, in any case); where there are none, all
    images are in train. Classes are the folders in them (a leading number as in `1_abnormal` is dropped). In Kaggle's and
    Mendeley's pneumonia set the file name tells viral from bacterial, and the patient.

    Args:
        root: the folder.
        labels: path of NIH's table of findings; by default the one that lies in the folder, if any (nih.py).
        findings: class to the findings that make it, for NIH.
        fewest_classes: with fewer it is refused.

    Raises:
        BadDataset: no images, no such tree, a table that is none, or too few classes.
        UnknownName: a finding that the table does not have.
    """
    listing = _list_images(root, labels, findings or {}, fewest_classes)
    links = [(_readable(name), allowed_paths.LINK_REASON) for name in outward_links(root)]
    return replace(listing, skipped=(*listing.skipped, *links))


def _list_images(root: Path, labels: str, findings: Mapping[str, Sequence[str]], fewest_classes: int) -> ImageListing:
    if labels and not Path(labels).is_file():
        raise BadDataset(f"There is no table of findings at '{labels}'. Expected: NIH's Data_Entry_2017.csv.")
    if table := Path(labels) if labels else nih.table_in(root):
        rows, skipped = nih.read(root, table, findings)
        files = [
            ImageFile(*row) for row in rows[["id", "split", "label", "patient"]].itertuples(index=False, name=None)
        ]
        return replace(_listing(root, files, skipped, fewest_classes), citation=nih.CITATION)
    if findings:
        raise BadDataset("Findings were chosen, but there is no table of them. Name NIH's table with --labels.")
    return _list_tree(root, fewest_classes)


def _list_tree(root: Path, fewest_classes: int) -> ImageListing:
    top, paths = _paths_by_class(root)
    if not paths:
        raise _no_class_folders(root)
    names_type = any(type_of_pneumonia(path.stem) for _, folder, path in paths if folder == "pneumonia")
    files, skipped = [], []
    for split, folder, path in paths:
        name = path.relative_to(top).as_posix()
        if not _is_utf8(name):
            skipped.append((_readable(name), "The file name is not valid UTF-8. Rename it to take it in."))
            continue
        label = type_of_pneumonia(path.stem) if names_type and folder == "pneumonia" else folder
        if label:
            files.append(ImageFile(name, split, label, patient_key(name, label, split)))
        else:
            skipped.append((name, "The file name says neither virus nor bacteria."))
    kermany = names_type and sum(is_kermany_name(PurePosixPath(file.id).stem) for file in files) > 0.9 * len(files)
    return replace(_listing(top, files, skipped, fewest_classes), citation=kaggle.CITATION if kermany else "")


def _listing(root: Path, files: list[ImageFile], skipped: list[tuple[str, str]], fewest_classes: int) -> ImageListing:
    classes = tuple(sorted({file.label for file in files}, key=_class_rank))
    if len(classes) < fewest_classes:
        what = f"Only one class, '{classes[0]}', was" if classes else "No image with a class was"
        raise BadDataset(f"{what} found below {root}; at least two classes are needed. Expected: {_EXPECTED}.")
    rank = {label: position for position, label in enumerate(classes)}
    files.sort(key=lambda file: (SPLITS.index(file.split), rank[file.label], file.id))
    return ImageListing(root, classes, tuple(files), tuple(skipped))


def _class_rank(name: str) -> tuple[int, str]:
    return (_CLASS_ORDER.index(name) if name in _CLASS_ORDER else len(_CLASS_ORDER), name)


# ---- folders: split and class


def _paths_by_class(root: Path) -> tuple[Path, list[tuple[str, str, Path]]]:
    """The folder that ids are below, and (split, class, path) of each image."""
    top = _folder_of_splits(root)
    if top is None:
        top = _folder_of_classes(root)
        return top, [("train", label, path) for label, path in _paths_in_classes(top)]
    splits = {name: _SPLIT_OF_FOLDER[name.lower()] for name in subfolders(top) if name.lower() in _SPLIT_OF_FOLDER}
    return top, [(split, *rest) for name, split in splits.items() for rest in _paths_in_classes(top / name)]


def _paths_in_classes(top: Path) -> list[tuple[str, Path]]:
    return [(class_of_folder(name), path) for name in subfolders(top) for path in walk(top / name)]


def _folder_of_splits(root: Path) -> Path | None:
    """The shallowest folder with split folders in it, if any; Kaggle's own zip holds the whole tree twice, one in the other."""
    level = [root]
    while level:
        for folder in level:
            if any(name.lower() in _SPLIT_OF_FOLDER for name in subfolders(folder)):
                return folder
        level = [folder / name for folder in level for name in subfolders(folder)][:10_000]
    return None


def _folder_of_classes(root: Path) -> Path:
    """The folder whose subfolders are classes: the first on the way down that holds more than one."""
    if not _has_images(root):
        raise _no_class_folders(root)
    top = root
    while len(inside := subfolders(top)) == 1:
        top = top / inside[0]
    if any(_NIH_PART.fullmatch(name) for name in inside):
        raise BadDataset(
            f"The folders below {root} are called as NIH's parts (images_001, …), and its table of findings, {nih.TABLE}, "
            "is not there. Put it into the folder, or name it with --labels."
        )
    if not any(_has_images(top / name) for name in inside):
        raise BadDataset(
            f"The images below {root} lie in one folder, so that nothing tells their class. Expected: {_EXPECTED}."
        )
    return top


def _no_class_folders(root: Path) -> BadDataset:
    if _has_images(root):
        return BadDataset(
            f"The images below {root} lie straight in their split folders; each class needs a folder. Expected: {_EXPECTED}."
        )
    return BadDataset(f"No images were found below {root}. Expected: {', '.join(SUFFIXES)} in {_EXPECTED}.")


def _has_images(root: Path) -> bool:
    return next(walk(root), None) is not None


def _is_utf8(name: str) -> bool:
    """Bytes that are no UTF-8 come from the file system as lone surrogates, which nothing can write down."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _readable(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="replace")


# ---- names: class and patient


def class_of_folder(name: str) -> str:
    """The class that a folder stands for: '1_abnormal' is 'abnormal', 'VIRAL PNEUMONIA' and 'virus' are 'viral'."""
    plain = (re.sub(r"^\d+[_-]", "", name).strip() or name).lower()
    kind = re.sub(r"[\s_-]*pneumonia$", "", plain)
    return _CLASS_OF_WORD.get(kind, plain)


def type_of_pneumonia(stem: str) -> str:
    """viral or bacterial, as Kaggle's and Mendeley's file names say; "" where the name says neither."""
    match = _KAGGLE_PNEUMONIA.search(stem) or _MENDELEY.fullmatch(stem)
    return _CLASS_OF_WORD.get(match["kind"].lower(), "") if match else ""


def is_kermany_name(stem: str) -> bool:
    """True if a file is named as in the set of Kermany, Zhang and Goldbaum, as Kaggle or Mendeley have it."""
    return any(pattern.search(stem) for pattern in (_KAGGLE_PNEUMONIA, _KAGGLE_NORMAL)) or bool(
        _MENDELEY.fullmatch(stem)
    )


def patient_key(path: str, label: str, split: str) -> str:
    """Key of the patient of the image at `path` (below the dataset, forward slashes): equal for images of one person.

    Kaggle's numbers restart per kind, and again in the test split (train and val share theirs). Mendeley's are numbers of
    patients; nowhere is it written that they restart, so the same number is the same patient, in whatever split or class:
    where it is not, the audit reports one pair too many, which is better than one too few. Where a name says nothing, every
    file is a patient of its own. A DICOM file's own patient goes before all this (packing.py).
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
