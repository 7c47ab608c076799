"""Bring a source onto this disk. A new source is one function and one line in SOURCES."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxr_core.data import archive
from cxr_core.data.progress import Progress
from cxr_core.data.sources import kaggle, nih, synthetic
from cxr_core.errors import BadDataset


@dataclass(frozen=True)
class SourceFolder:
    """A folder of images that a source delivered.

    Attributes:
        root: the folder; inside the dataset's own folder if the source brought the files.
        kind: kaggle, synthetic, folder or zip.
        origin: for people: where the images came from.
        citation: "" if the layout has to tell.
        synthetic: whether the images are drawn.
        skipped: (file, reason) of what could not be unpacked.
    """

    root: Path
    kind: str
    origin: str
    citation: str = ""
    synthetic: bool = False
    skipped: tuple[tuple[str, str], ...] = ()


def fetch(source: str, folder: Path, *, images: int, seed: int, progress: Progress) -> SourceFolder:
    """Bring a source onto this disk.

    Args:
        source: a word of SOURCES ("kaggle", "synthetic"), a folder, or a .zip.
        folder: the new dataset's own folder for images; sources that bring files write there.
        images: number of images, for "synthetic".
        seed: of "synthetic".
        progress: gets the stage and the files, images or megabytes so far.

    Raises:
        BadDataset: there is nothing there, or it is neither a folder nor a zip.
        WorkFailed: the download or the disk failed.
    """
    if source in SOURCES:
        return SOURCES[source](folder, images, seed, progress)
    path = _resolve(source)
    if path.is_dir():
        return SourceFolder(path, "folder", str(path))
    if path.is_file():
        unpacked = archive.extract(path, folder, progress, also=nih.FILES)
        return SourceFolder(folder, "zip", path.name, skipped=unpacked.skipped)
    raise BadDataset(
        f"There is nothing at '{source}'. Expected: {', '.join(SOURCES)}, a folder with a subfolder for each split or class, "
        "or a .zip of one."
    )


def _resolve(source: str) -> Path:
    try:
        return Path(source).expanduser().resolve()
    except RuntimeError as error:  # the home of a user who does not exist
        raise BadDataset(f"There is nothing at '{source}': {error} Give the whole path.") from error


def _fetch_kaggle(folder: Path, images: int, seed: int, progress: Progress) -> SourceFolder:  # noqa: ARG001
    return SourceFolder(kaggle.download(progress), "kaggle", kaggle.HANDLE, kaggle.CITATION)


def _fetch_synthetic(folder: Path, images: int, seed: int, progress: Progress) -> SourceFolder:
    synthetic.write(folder, images=images, seed=seed, progress=progress)
    return SourceFolder(folder, "synthetic", f"{images} phantoms, seed {seed}", synthetic.CITATION, synthetic=True)


SOURCES: dict[str, Callable[[Path, int, int, Progress], SourceFolder]] = {
    "kaggle": _fetch_kaggle,
    "synthetic": _fetch_synthetic,
}
