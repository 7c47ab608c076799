"""Folders that were deleted and can still be brought back: put aside for RETENTION_DAYS, then deleted for good."""

import shutil
import time
from pathlib import Path

from cxr_core import workspace

RETENTION_DAYS = 7


def put_aside(folder: Path, target: Path) -> None:
    """Move a folder to where it waits to be brought back, in place of what waits there already.

    Raises:
        WorkFailed: it cannot be moved.
    """
    workspace.ensure_dir(target.parent)
    with workspace.writing():
        shutil.rmtree(target, ignore_errors=True)
        folder.touch()  # its time says when it was deleted, also to a purge that meets it right after the move
        folder.replace(target)


def bring_back(source: Path, target: Path) -> None:
    """Move a folder back; nothing may be there.

    Raises:
        WorkFailed: it cannot be moved.
    """
    with workspace.writing():
        source.replace(target)


def names(folder: Path) -> list[str]:
    """Names of the folders that wait in `folder`, the latest deleted first."""
    times = {name: modified(folder / name) for name in workspace.list_dirs(folder)}
    return sorted(times, key=lambda name: -times[name])


def purge(folder: Path, latest: float) -> None:
    """Delete for good what was deleted at the time `latest` (seconds since 1970) or before."""
    for name in names(folder):
        if modified(folder / name) <= latest:
            shutil.rmtree(folder / name, ignore_errors=True)


def modified(path: Path) -> float:
    """Time of the last change in seconds since 1970; now, if another process has just removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
