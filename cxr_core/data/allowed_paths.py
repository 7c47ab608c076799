"""Folders whose files a visitor of the pages may open by typing a path: those in the environment variable CXR_DATA_ROOTS.

The command line opens any path. A job that a page has started runs with FROM_PAGE set, and follows no link out of these folders.
"""

import os
from pathlib import Path

from cxr_core.errors import BadInput

ROOTS = "CXR_DATA_ROOTS"
FROM_PAGE = "CXR_FROM_PAGE"  # set by background_jobs.py for its processes, not by people
LINK_REASON = f"It is a link that leads out of the folders that this server opens for visitors ({ROOTS})."


def roots() -> tuple[Path, ...] | None:
    """The folders, without links in their paths; None where the variable is not set. Set to "" it allows no folder."""
    text = os.environ.get(ROOTS)
    if text is None:
        return None
    return tuple(Path(folder.strip()).expanduser().resolve() for folder in text.split(os.pathsep) if folder.strip())


def resolve(path: str) -> Path:
    """The path of a file or folder below one of the roots, whole and without links; it need not exist.

    Raises:
        BadInput: it is not below a root. The sentence is the same whether anything is there or not.
    """
    try:
        resolved = Path(path).expanduser().resolve()
    except (OSError, ValueError, RuntimeError):  # links in a circle, a NUL character, the home of nobody
        resolved = None
    if resolved is None or not is_below_root(resolved):
        raise BadInput(f"'{path}' is not below a folder that this server opens for visitors ({ROOTS}).")
    return resolved


def is_below_root(resolved: Path) -> bool:
    """True if a path without links is one of the roots, or below one."""
    return any(resolved.is_relative_to(root) for root in roots() or ())


def leads_out(path: Path) -> bool:
    """True if this process may not open `path`, because it is a link that leads out of the roots.

    Only the last part of the path is looked at: its folder has been checked on the way down.
    """
    if FROM_PAGE not in os.environ or roots() is None or not path.is_symlink():
        return False
    try:
        return not is_below_root(path.resolve())
    except (OSError, RuntimeError):
        return True
