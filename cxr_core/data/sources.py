"""Where images come from, and how a folder tree is read: its splits, classes and patients.

A source turns what a person names (a word, a folder, an archive) into a folder of images. `listing` then reads that
folder. A new source is one function and one line in SOURCES.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cxr_core import process
from cxr_core.data import archive, file_names, nih, synthetic
from cxr_core.data.progress import Progress, harmless
from cxr_core.errors import BadDataset, WorkFailed
from cxr_core.images import SUFFIXES

_log = logging.getLogger(__name__)

KAGGLE_HANDLE = "paultimothymooney/chest-xray-pneumonia/versions/2"
KAGGLE_MEGABYTES = 1229  # of its archive
CITATION_KERMANY = (
    "Kermany, Zhang, Goldbaum: Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for Classification. "
    "Mendeley Data, doi 10.17632/rscbjbr9sj.2, CC BY 4.0."
)
CITATION_SYNTHETIC = "Synthetic phantoms drawn by this software, for trying it out. They show no patient."

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_CLASS_ORDER = ("normal", "viral", "bacterial", "pneumonia", "abnormal")


@dataclass(frozen=True)
class SourceFolder:
    """What a source delivers: a folder of images, and whether the dataset keeps it as its own."""

    root: Path
    kind: str
    origin: str
    citation: str = ""
    synthetic: bool = False
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ImageFile:
    """One image file of a folder tree. `id` is its path below the root, with forward slashes."""

    id: str
    split: str
    label: str
    patient: str


@dataclass(frozen=True)
class Listing:
    """The images of a folder tree, sorted by split, class, id, and the files that say nothing of their class."""

    root: Path
    classes: tuple[str, ...]
    found: tuple[ImageFile, ...]
    skipped: tuple[tuple[str, str], ...]
    citation: str = ""


def fetch(source: str, own: Path, *, images: int, seed: int, progress: Progress) -> SourceFolder:
    """Bring a source onto this disk.

    Args:
        source: a word of SOURCES ("kaggle", "synthetic"), a folder, or a .zip.
        own: the new dataset's own folder for images; sources that bring files write there.
        images: how many, for "synthetic".
        seed: of "synthetic".
        progress: told the stage and how far it is.

    Raises:
        BadDataset: there is nothing there, or it is neither a folder nor a zip.
        WorkFailed: the download or the disk failed.
    """
    if source in SOURCES:
        return SOURCES[source](own, images, seed, progress)
    path = _path(source)
    if path.is_dir():
        return SourceFolder(path, "folder", str(path))
    if path.is_file():
        unpacked = archive.extract(path, own, progress, also=nih.FILES)
        return SourceFolder(own, "zip", path.name, skipped=unpacked.skipped)
    raise BadDataset(
        f"There is nothing at '{source}'. Expected: {', '.join(SOURCES)}, a folder with a subfolder for each split or class, "
        "or a .zip of one."
    )


def _path(source: str) -> Path:
    try:
        return Path(source).expanduser().resolve()
    except RuntimeError as error:  # the home of a user who does not exist
        raise BadDataset(f"There is nothing at '{source}': {error} Give the whole path.") from error


def _from_kaggle(own: Path, images: int, seed: int, progress: Progress) -> SourceFolder:  # noqa: ARG001
    import kagglehub
    import requests

    try:
        root = Path(_download(kagglehub.dataset_download, harmless(progress)))
    except requests.exceptions.RequestException as error:
        raise WorkFailed(
            "Kaggle could not be reached from this machine. Check the connection and try again (a broken download goes on "
            "where it stopped), or download the set in a browser (kaggle.com, 'Chest X-Ray Images (Pneumonia)') and add "
            "the zip."
        ) from error
    except OSError as error:
        raise WorkFailed(
            f"The download from Kaggle could not be written: {error.strerror or error}. Free some space, or point "
            "KAGGLEHUB_CACHE to a folder on another disk, and try again: it goes on where it stopped."
        ) from error
    return SourceFolder(root, "kaggle", KAGGLE_HANDLE, CITATION_KERMANY)


def _download(download: Callable[[str], str], progress: Progress) -> str:
    """Run the download, which an interrupt does not wait for, and report its megabytes every second."""
    return process.attended(
        lambda: download(KAGGLE_HANDLE),
        lambda: progress("Downloading from Kaggle, MB", _downloaded_bytes() // 10**6, KAGGLE_MEGABYTES),
        seconds=1,
    )


def _downloaded_bytes() -> int:
    """Size of Kaggle's archive so far, where the next try goes on; 0 if this version of kagglehub keeps it elsewhere."""
    try:
        from kagglehub.cache import get_cached_archive_path
        from kagglehub.handle import parse_dataset_handle

        return Path(get_cached_archive_path(parse_dataset_handle(KAGGLE_HANDLE))).stat().st_size
    except FileNotFoundError:
        return 0
    except Exception:  # noqa: BLE001 - these functions are kagglehub's own, and only the meter needs them
        _log.debug("The size of the download is not known.", exc_info=True)
        return 0


def _from_phantoms(own: Path, images: int, seed: int, progress: Progress) -> SourceFolder:
    synthetic.write(own, images=images, seed=seed, progress=progress)
    return SourceFolder(own, "synthetic", f"{images} phantoms, seed {seed}", CITATION_SYNTHETIC, synthetic=True)


SOURCES: dict[str, Callable[[Path, int, int, Progress], SourceFolder]] = {
    "kaggle": _from_kaggle,
    "synthetic": _from_phantoms,
}


def list_images(
    root: Path,
    *,
    labels: Path | None = None,
    findings: Mapping[str, Sequence[str]] | None = None,
    fewest_classes: int = 2,
) -> Listing:
    """Read a folder: NIH's, with its table of findings, or a tree of `split/class/image` folders at any depth.

    Splits are folders called train, val, test (or training, valid, validation, in any case); where there are none, all
    images are in train. Classes are the folders in them (a leading number as in `1_abnormal` is dropped). In Kaggle's and
    Mendeley's pneumonia set the file name tells viral from bacterial, and the patient (file_names.py).

    Args:
        root: the folder.
        labels: NIH's table of findings; by default the one that lies in the folder, if any (nih.py).
        findings: class to the findings that make it, for NIH.
        fewest_classes: with fewer it is refused.

    Raises:
        BadDataset: no images, no such tree, a table that is none, or too few classes.
        UnknownName: a finding that the table does not have.
    """
    if table := labels or nih.table_in(root):
        rows, skipped_rows = nih.read(root, table, findings or {})
        told = [ImageFile(*row) for row in rows[["id", "split", "label", "patient"]].itertuples(index=False, name=None)]
        return replace(_listing(root, told, skipped_rows, fewest_classes), citation=nih.CITATION)
    if findings:
        raise BadDataset("Findings were chosen, but there is no table of them. Name NIH's table with --labels.")
    return _tree(root, fewest_classes)


def _tree(root: Path, fewest_classes: int) -> Listing:
    top = _split_top(root)
    files = list(_walk(top)) if top else []
    if top is None:
        top = _class_top(root)
        files = [("train", label, path) for label, path in _walk_classes(top)]
    if not files:
        raise _without_images(root)
    told_apart = any(file_names.names_pneumonia_type(path.stem) for _, folder, path in files if folder == "pneumonia")
    found, skipped = [], []
    for split, folder, path in files:
        name = path.relative_to(top).as_posix()
        if not _is_utf8(name):
            skipped.append((_readable(name), "The file name is not valid UTF-8. Rename it to take it in."))
            continue
        label = file_names.label_of_file(folder, path.stem) if told_apart else folder
        if label:
            found.append(ImageFile(name, split, label, file_names.patient_key(name, label, split)))
        else:
            skipped.append((name, "The file name says neither virus nor bacteria."))
    kermanys = told_apart and sum(file_names.is_kermany_name(PurePosixPath(one.id).stem) for one in found) > 0.9 * len(
        found
    )
    return replace(_listing(top, found, skipped, fewest_classes), citation=CITATION_KERMANY if kermanys else "")


def _listing(root: Path, found: list[ImageFile], skipped: list[tuple[str, str]], fewest_classes: int) -> Listing:
    classes = tuple(sorted({one.label for one in found}, key=_class_rank))
    if len(classes) < fewest_classes:
        what = f"Only one class, '{classes[0]}', was" if classes else "No image with a class was"
        raise BadDataset(f"{what} found below {root}; at least two classes are needed. Expected: {_EXPECTED}.")
    rank = {label: place for place, label in enumerate(classes)}
    found.sort(key=lambda one: (SPLITS.index(one.split), rank[one.label], one.id))
    return Listing(root, classes, tuple(found), tuple(skipped))


_EXPECTED = "a tree such as train/NORMAL/a.jpeg, train/PNEUMONIA/person1_virus_6.jpeg, test/NORMAL/b.jpeg"
_NIH_PART = re.compile(r"images(_\d+)?")


def _class_rank(name: str) -> tuple[int, str]:
    return (_CLASS_ORDER.index(name) if name in _CLASS_ORDER else len(_CLASS_ORDER), name)


def _split_top(root: Path) -> Path | None:
    """The shallowest folder with split folders in it, if any; Kaggle's own zip holds the whole tree twice, one in the other."""
    level = [root]
    while level:
        for folder in level:
            if any(name.lower() in _SPLIT_NAMES for name in _subfolders(folder)):
                return folder
        level = [folder / name for folder in level for name in _subfolders(folder)][:10_000]
    return None


def _class_top(root: Path) -> Path:
    """The folder whose subfolders are classes: the first on the way down that holds more than one."""
    if not _any_image(root):
        raise _without_images(root)
    top = root
    while len(inside := _subfolders(top)) == 1:
        top = top / inside[0]
    if any(_NIH_PART.fullmatch(name) for name in inside):
        raise BadDataset(
            f"The folders below {root} are called as NIH's parts (images_001, …), and its table of findings, {nih.TABLE}, "
            "is not there. Put it into the folder, or name it with --labels."
        )
    if not any(_any_image(top / name) for name in inside):
        raise BadDataset(
            f"The images below {root} lie in one folder, so that nothing tells their class. Expected: {_EXPECTED}."
        )
    return top


def _without_images(root: Path) -> BadDataset:
    if _any_image(root):
        return BadDataset(
            f"The images below {root} lie straight in their split folders; each class needs a folder. Expected: {_EXPECTED}."
        )
    return BadDataset(f"No images were found below {root}. Expected: {', '.join(SUFFIXES)} in {_EXPECTED}.")


def _any_image(root: Path) -> bool:
    return any(Path(name).suffix.lower() in SUFFIXES for _, _, names in os.walk(root) for name in names)


def _subfolders(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith(".") and entry.name != "__MACOSX"
    )


def _is_utf8(name: str) -> bool:
    """Bytes that are no UTF-8 come from the file system as lone surrogates, which nothing can write down."""
    return not any("\ud800" <= one <= "\udfff" for one in name)


def _readable(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _walk(top: Path) -> Iterator[tuple[str, str, Path]]:
    """(split, class, path) of every image in the split folders of `top`."""
    for split_folder in _subfolders(top):
        split = _SPLIT_NAMES.get(split_folder.lower())
        if split is not None:
            yield from ((split, label, path) for label, path in _walk_classes(top / split_folder))


def _walk_classes(top: Path) -> Iterator[tuple[str, Path]]:
    """(class, path) of every image in the class folders of `top`; hidden files are no images."""
    for class_folder in _subfolders(top):
        label = file_names.label_of_folder(class_folder)
        for folder, _, names in os.walk(top / class_folder):
            for name in names:
                if not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES:
                    yield label, Path(folder) / name
