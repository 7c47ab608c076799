"""The rule of which files count as images of a dataset, the same in a folder and in an archive."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NoReturn

from cxr_core.data import allowed_paths
from cxr_core.errors import WorkFailed, sentence
from cxr_core.images import SUFFIXES


def is_visible(name: str) -> bool:
    """True if neither the file nor a folder of its path (slashes of either kind) is one that operating systems hide."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def is_image(name: str) -> bool:
    """True if a path, relative to the dataset, counts as an image: it is visible and has one of `images.SUFFIXES`."""
    return PurePosixPath(name.replace("\\", "/")).suffix.lower() in SUFFIXES and is_visible(name)


def subfolders(folder: Path) -> list[str]:
    """Names of the visible subfolders that may be opened, sorted."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if is_visible(entry.name) and not allowed_paths.leads_out(Path(entry.path)) and entry.is_dir()
    )


def walk(root: Path) -> Iterator[Path]:
    """Paths of all images at any depth below `root` that may be opened."""
    for path in _paths(root):
        if is_image(path.name) and not allowed_paths.leads_out(path):
            yield path


def outward_links(root: Path) -> list[str]:
    """Paths below `root` of the links that may not be opened, sorted; see `allowed_paths.leads_out`."""
    return sorted(
        path.relative_to(root).as_posix() for path in _paths(root, links=True) if allowed_paths.leads_out(path)
    )


def _raise(error: OSError) -> NoReturn:
    """A folder that is passed over in silence would take its images out of the dataset."""
    raise WorkFailed(f"The images below a folder could not be listed, so none were taken. {sentence(error)}") from error


def _paths(root: Path, *, links: bool = False) -> Iterator[Path]:
    """Paths of all visible files at any depth below `root`; with `links`, of links to folders too."""
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = [name for name in folders if is_visible(name)]
        yield from (Path(folder) / name for name in names if is_visible(name))
        if links:
            yield from (path for name in folders if (path := Path(folder) / name).is_symlink())
