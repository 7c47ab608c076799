"""Every error that a person can cause or mend. Pages and the command line catch `CxrError` only; real bugs propagate.

    CxrError                  exit code 1: the work failed
    ├── WorkFailed            something outside the person's input went wrong (disk, memory, a vanished file)
    │   └── DamagedFile       a file's content is not what was written
    └── BadInput              exit code 2: the input or the arguments are wrong
        ├── UnknownName       no such dataset, run, model, recipe, class or setting; lists the known ones
        ├── AlreadyExists     the name is taken
        ├── UnreadableImage   not an image, damaged, or beyond the limits
        │   └── TooManyPixels
        └── BadDataset        a folder or archive that cannot become a dataset

Every message is one or more whole sentences: what happened, what was expected, what came, what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches

_LISTED = 50  # more names than this do not help


class CxrError(Exception):
    """Root of the tree; `str(error)` is fit to be shown to a person."""

    exit_code = 1


class WorkFailed(CxrError):
    """The request was fine, the work was not."""


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
