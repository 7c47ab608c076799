"""Progress of long work: a callback for the caller, and a file for other processes."""

import logging
import time
from pathlib import Path
from typing import Protocol

from cxr_core import workspace
from cxr_core.errors import WorkFailed

_FILE = "progress.json"
_log = logging.getLogger(__name__)


class Progress(Protocol):
    """Called often and cheaply; `total` is 0 while it is unknown."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def no_progress(stage: str, done: int, total: int) -> None:
    """Progress that is not shown."""


def harmless(progress: Progress) -> Progress:
    """The same progress, but its errors never reach the work: the first is logged, and it is called again the next time."""
    failed = False

    def report(stage: str, done: int, total: int) -> None:
        nonlocal failed
        try:
            progress(stage, done, total)
        except Exception:  # noqa: BLE001 - whatever a display may raise
            if not failed:
                _log.warning("Progress cannot be shown; the work continues.", exc_info=True)
            failed = True

    return report


def recorded_progress(folder: Path, progress: Progress) -> Progress:
    """Progress that is also written to a file in `folder`, a few times a second; neither failing stops the work."""
    written = 0.0

    def write(stage: str, done: int, total: int) -> None:
        nonlocal written
        if time.monotonic() - written > 0.3:
            written = time.monotonic()
            workspace.write_json(folder / _FILE, [stage, done, total])

    show, note = harmless(progress), harmless(write)

    def report(stage: str, done: int, total: int) -> None:
        show(stage, done, total)
        note(stage, done, total)

    return report


def read_progress(folder: Path) -> tuple[str, int, int]:
    """Progress that was last written in `folder`: stage, done, total (0 while unknown)."""
    try:
        stage, done, total = workspace.read_json(folder / _FILE)
        return str(stage), int(done), int(total)
    except (FileNotFoundError, ValueError, TypeError, WorkFailed):  # not written yet, or damaged
        return "Starting", 0, 0
