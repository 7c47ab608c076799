"""How long work tells how far it is: to whoever asked for it, and by a file to whoever looks from another process."""

import time
from pathlib import Path
from typing import Protocol

from cxr_core import workspace
from cxr_core.errors import WorkFailed

_FILE = "progress.json"


class Progress(Protocol):
    """Called often and cheaply; `total` is 0 while it is unknown."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that nobody looks at."""


def noting(folder: Path, progress: Progress) -> Progress:
    """Progress that is also written down in `folder`, a few times a second."""
    written = 0.0

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal written
        progress(stage, done, total)
        if time.monotonic() - written > 0.3:
            written = time.monotonic()
            workspace.write_json(folder / _FILE, [stage, done, total])

    return tell


def noted(folder: Path) -> tuple[str, int, int]:
    """What was last written down in `folder`: stage, done, total (0 while unknown)."""
    try:
        stage, done, total = workspace.read_json(folder / _FILE)
    except (FileNotFoundError, WorkFailed):
        return "Starting", 0, 0
    return stage, done, total
