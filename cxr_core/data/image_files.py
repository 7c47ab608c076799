"""The rule of which files count as images of a dataset, the same in a folder and in an archive."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cxr_core.images import SUFFIXES


def is_visible(name: str) -> bool:
    """True if neither the file nor a folder of its path (slashes of either kind) is one that operating systems hide."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def is_image(name: str) -> bool:
    """True if a path, relative to the dataset, counts as an image: it is visible and has one of `images.SUFFIXES`."""
    return PurePosixPath(name.replace("\\", "/")).suffix.lower() in SUFFIXES and is_visible(name)


def subfolders(folder: Path) -> list[str]:
    """Names of the visible subfolders, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and is_visible(entry.name))


def walk(root: Path) -> Iterator[Path]:
    """Paths of all images at any depth below `root`."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if is_visible(name)]
        yield from (Path(folder) / name for name in names if is_image(name))
