"""The log of a server on stderr, for its operator: requests, refusals, jobs and errors, and nothing of what people send.

Callers log no file name, DICOM tag, pixel or token; tracebacks and warnings of libraries are written without their messages,
which may quote one.
"""

import logging
import os
import sys
import traceback
import warnings
from types import TracebackType

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def configure() -> None:
    """Write the records of this package to stderr, from the level in `CXR_LOG_LEVEL` on (by default INFO)."""
    warnings.showwarning = _log_warning  # type: ignore[assignment]
    logger = logging.getLogger(__package__)
    level = (os.environ.get("CXR_LOG_LEVEL") or "INFO").upper()
    logger.setLevel(level if level in LEVELS else "INFO")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
        if level not in LEVELS:
            logger.warning("CXR_LOG_LEVEL is one of %s. Received: '%s'; INFO is used.", ", ".join(LEVELS), level)


def _log_warning(_: Warning | str, category: type[Warning], filename: str, lineno: int, *_rest: object) -> None:
    logging.getLogger(__package__).warning("%s at %s:%d", category.__name__, filename, lineno)


class _Formatter(logging.Formatter):
    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        lines, error = [], ei[1]
        while error is not None:
            lines += [type(error).__qualname__ + "\n", *traceback.format_tb(error.__traceback__)]
            error = error.__cause__ or error.__context__
        return "".join(lines).rstrip()


class _StderrHandler(logging.Handler):
    """Writes to the stderr of the moment of the record."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError):  # a full disk or a closed terminal ends no work
            self.handleError(record)
