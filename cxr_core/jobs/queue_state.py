"""The queue as the statuses of its runs hold it: its lock, its order, and the way back into it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cxr_core import locks, process, workspace
from cxr_core.runs import status as states
from cxr_core.runs.run_store import Run


@contextmanager
def queue_lock(*, timeout: float = locks.SECONDS) -> Iterator[None]:
    """Hold the lock under which a run's state may be changed by anyone but its own process.

    Never ask a network anything while holding it.

    Raises:
        Busy: another process holds it for longer than `timeout` seconds.
        WorkFailed: the workspace cannot be written.
    """
    with locks.hold(workspace.ensure_dir(workspace.runs()) / ".queue.lock", "the queue of trainings", timeout=timeout):
        yield


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
