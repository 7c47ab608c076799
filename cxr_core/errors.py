"""Every error that a person can cause or mend. Pages and the command line catch `CxrError` only; real bugs propagate.

    CxrError                  exit code 1: the work failed
    ├── WorkFailed            something outside the person's input went wrong (disk, memory, a vanished file)
    │   ├── Busy              another process holds what it needs
    │   └── DamagedFile       a file's content is not what was written
    └── BadInput              exit code 2: the input or the arguments are wrong
        ├── UnknownName       no such dataset, run, model, recipe, class or setting; lists the known ones
        ├── AlreadyExists     the name is taken
        ├── UnreadableImage   not an image, damaged, or beyond the limits
        │   └── TooManyPixels
        └── BadDataset        a folder or archive that cannot become a dataset

Every message is one or more whole sentences: what happened, what was expected, what came, what to do.
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

_LISTED = 50  # more names than this do not help


class CxrError(Exception):
    """Root of the tree; `str(error)` is fit to be shown to a person."""

    exit_code = 1


class WorkFailed(CxrError):
    """The request was fine, the work was not."""


class Busy(WorkFailed):
    """Another process holds what the work needs; trying again later may help."""


class DamagedFile(WorkFailed):
    """The content of a file is not what was written; never raised where it merely could not be read."""


class BadInput(CxrError):
    """The input has to be changed before it can work."""

    exit_code = 2


class UnknownName(BadInput):
    """A name that is not among the known ones.

    Args:
        kind: what was named, as a noun ("model", "run").
        name: the name received.
        known: the names that exist, in the order to list them.
    """

    def __init__(self, kind: str, name: str, available: Iterable[str]):
        names = list(available)
        near = get_close_matches(name, names, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
        offer = f"Known: {listed}." if names else f"There is no {kind} yet."
        super().__init__(f"There is no {kind} named '{name}'.{hint} {offer}")
        self.name, self.known = name, names


class AlreadyExists(BadInput):
    """The name is taken, and nothing was overwritten."""


class UnreadableImage(BadInput):
    """The bytes are no image that can be read."""


class TooManyPixels(UnreadableImage):
    """The image has more pixels, `width` × `height`, than may be decoded."""

    def __init__(self, width: int, height: int, limit: int):
        super().__init__(
            f"The image has {width:,} × {height:,} pixels; at most {limit:,} pixels are read. Reduce it and try again."
        )
        self.width, self.height = width, height


class BadDataset(BadInput):
    """The folder or archive cannot become a dataset."""


_CAUSES = {
    errno.ENOSPC: "The disk is full. Free some space and try again.",
    errno.EDQUOT: "Your share of the disk is used up. Free some space and try again.",
    errno.EROFS: "The disk is read-only. Make it writable, or point CXR_HOME to a folder that can be written.",
    errno.EACCES: "This user may not do that. Change the rights, or point CXR_HOME to another folder.",
    errno.EPERM: "This user may not do that. Change the rights, or point CXR_HOME to another folder.",
    errno.EMFILE: "This process has too many files open. Close other work, or raise the limit (ulimit -n), and try again.",
    errno.ENFILE: "This machine has too many files open. End other programs and try again.",
    errno.ENOMEM: "The machine's memory is full. End other programs and try again.",
    errno.EIO: "The disk reported an error. Check it before anything else is written to it.",
}


def sentence(error: BaseException) -> str:
    """The sentence for an error that a person can mend: a CxrError, or one of the operating system or of memory."""
    if isinstance(error, MemoryError):
        return _CAUSES[errno.ENOMEM]
    if not isinstance(error, OSError):
        return str(error)
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{_CAUSES.get(error.errno or 0) or f'{error.strerror or error}.'}"


_OF_ONE_FILE = (
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL,
    errno.EILSEQ,
)  # fmt: skip


def is_shortage(error: BaseException | None) -> bool:
    """True if an error, or what caused it, says nothing about the file that was read: memory, open files or the disk failed."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and error.errno and error.errno not in _OF_ONE_FILE:
            return True
        error = error.__cause__
    return False


def stop_if_shortage(error: BaseException, what: str) -> None:
    """Raise WorkFailed if `error` is a shortage: then `what` may be sound, and must not be called damaged or left out.

    Raises:
        WorkFailed: see `is_shortage`.
    """
    cause: BaseException | None = error
    while cause is not None and cause.__cause__ is not None and not isinstance(cause, MemoryError | OSError):
        cause = cause.__cause__
    if is_shortage(error):
        raise WorkFailed(f"{what} could not be read, and nothing was changed. {sentence(cause or error)}") from error
