"""Where an addition is built before it is moved into place, so that what is killed or refused leaves nothing behind."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cxr_core import workspace
from cxr_core.errors import AlreadyExists

_JUST_NOW = 60.0  # seconds


@contextmanager
def staging(name: str) -> Iterator[Path]:
    """A fresh folder for one addition, held by a lock that the system drops even if this process is killed.

    Raises:
        AlreadyExists: an addition of this name is under way.
    """
    folder = workspace.staging(name)
    workspace.ensure_dir(folder.parent)
    _clear_dead(folder.parent)
    lock = FileLock(folder.with_name(f".{name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise AlreadyExists(
            f"A dataset named '{name}' is being added at this moment. Wait for it, or choose another name."
        ) from error
    try:
        shutil.rmtree(folder, ignore_errors=True)  # what a killed addition left behind
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is still held: nobody else can be in between
        lock.release()


def discard(name: str) -> None:
    """Remove what an addition that has ended left behind; one that is under way, in whatever process, keeps its folder."""
    folder = workspace.staging(name)
    lock_file = folder.with_name(f".{name}.lock")
    if not folder.parent.is_dir():
        return
    with suppress(Timeout), FileLock(lock_file).acquire(timeout=0):
        shutil.rmtree(folder, ignore_errors=True)
        lock_file.unlink(missing_ok=True)


def _clear_dead(place: Path) -> None:
    """Remove what additions that were killed have left, of any name; not what is being begun at this moment."""
    for lock_file in place.glob(".*.lock"):
        lock = FileLock(lock_file)
        with suppress(Timeout, FileNotFoundError):
            if time.time() - lock_file.stat().st_mtime < _JUST_NOW:
                continue
            with lock.acquire(timeout=0):
                shutil.rmtree(place / lock_file.name[1 : -len(".lock")], ignore_errors=True)
                lock_file.unlink(missing_ok=True)
