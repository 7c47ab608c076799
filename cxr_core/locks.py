"""Locks between processes: held by a file, dropped by the system when their holder ends, never waited for without an end."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from cxr_core.errors import Busy, WorkFailed, sentence

SECONDS = 10.0  # that work waits for another process


@contextmanager
def hold(
    path: Path, what: str, *, timeout: float = SECONDS, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold the lock at `path` for the block, which writes: an OSError of it becomes a sentence.

    Args:
        path: of the file; its folder is there.
        what: that is locked, with an article, for the message.
        timeout: seconds to wait for it; 0 tries once.
        waiting: called twice a second while another process holds it; what it raises ends the waiting, nothing else does.

    Raises:
        Busy: another process has held it for longer than `timeout` seconds; says which.
        WorkFailed: the file cannot be opened, as on a read-only disk, or an OSError inside of the block.
    """
    lock = FileLock(path)
    _acquire(lock, path, what, timeout, waiting)
    try:
        yield
    except OSError as error:
        raise WorkFailed(sentence(error)) from error
    finally:
        lock.release()


def _acquire(lock: FileLock, path: Path, what: str, timeout: float, waiting: Callable[[], None] | None) -> None:
    while True:
        try:
            lock.acquire(timeout=0.5 if waiting else timeout)
            return
        except Timeout as error:
            if waiting is None:
                since = f", for more than {timeout:.0f} seconds" if timeout else ""
                raise Busy(
                    f"{holder(path)} holds {what}{since}. Try again in a moment; if it hangs, end it."
                ) from error
        except OSError as error:
            raise WorkFailed(f"The lock {path} cannot be opened. {sentence(error)}") from error
        waiting()


def holder(path: Path) -> str:
    """The process that holds a lock, in words, by Linux's list of locks: "Process 4711 (data add)"."""
    try:
        about = path.stat()
        node = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pid = next(int(words[4]) for words in lines if words[1] == "FLOCK" and words[5] == node and int(words[4]) > 0)
        return f"Process {pid} ({_doing(pid)})"
    except (OSError, StopIteration, IndexError, ValueError):
        return "Another process, perhaps of another machine,"


def _doing(pid: int) -> str:
    """The command of this project that a process runs, without its arguments, which may name files; else its program."""
    try:
        words = psutil.Process(pid).cmdline()
        if "cxr_core" in words:
            following = words[words.index("cxr_core") + 1 :]
            return " ".join(following[: 2 if following[:1] in (["data"], ["runs"]) else 1]) or "cxr_core"
        return psutil.Process(pid).name()
    except psutil.Error:
        return "ended meanwhile"
