"""The queue as the statuses of its runs hold it: its lock, its order, and the way back into it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cxr_core import process, workspace
from cxr_core.errors import WorkFailed
from cxr_core.runs import status as states
from cxr_core.runs.run_store import Run

LOCK_SECONDS = 60.0  # that an action waits for another process that changes the queue


class QueueBusy(WorkFailed):
    """Another process is changing the queue."""


@contextmanager
def queue_lock(*, timeout: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock under which a run's state may be changed by anyone but its own process.

    Never ask a network anything while holding it.

    Raises:
        QueueBusy: another process holds it for longer than `timeout` seconds.
    """
    with hold_lock(workspace.ensure_dir(workspace.runs()) / ".queue.lock", timeout):
        yield


@contextmanager
def hold_lock(path: Path, timeout: float) -> Iterator[None]:
    """Hold a lock of the queue; raises as `queue_lock`."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise QueueBusy(
            f"Another process has been changing the queue for more than {timeout:.0f} seconds. Try again in a moment."
        ) from error
    except OSError as error:
        raise WorkFailed(f"The lock {path} cannot be opened ({error.strerror}). Make its folder writable.") from error
    try:
        yield
    finally:
        lock.release()


def waiting_runs(all_runs: Sequence[Run]) -> list[Run]:
    """The queued ones of these runs, the next to start first."""
    queued = [run for run in all_runs if run.status.state == "queued"]
    return sorted(queued, key=lambda run: run.status.turn or run.status.created)


def requeue(run: Run, *, revived: int) -> None:
    """Put a run at the end of the queue; call it under `queue_lock`."""
    if run.status.owner is not None:
        process.kill(run.status.owner)  # a stopped one may still be predicting
    (run.folder / "stop").unlink(missing_ok=True)
    now = time.time()
    fresh = states.Status(
        created=run.status.created, turn=now, epoch=run.status.epoch, epochs=run.config.epochs, revived=revived
    )
    states.write(run.folder, fresh)
