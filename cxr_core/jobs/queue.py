"""Trainings: first come, first served, as many at once as there are places.

There is no server: whoever looks, submits or finishes starts what is next, one at a time under a file lock.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace

from filelock import FileLock

from cxr_core import process, workspace
from cxr_core.errors import BadInput
from cxr_core.runs import folder as runs
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig
from cxr_core.runs.folder import Run


def places() -> int:
    """How many runs train at once: `CXR_PLACES`, else 1, since one keeps all cores busy.

    Raises:
        BadInput: the variable is no whole number.
    """
    asked = os.environ.get("CXR_PLACES") or "1"
    try:
        return max(1, int(asked))
    except ValueError as error:
        raise BadInput(f"CXR_PLACES, how many runs train at once, is a whole number. Received: '{asked}'.") from error


def submit(config: RunConfig) -> str:
    """Queue a run, start it if there is a place, and return its id."""
    run_id = runs.create(config)
    dispatch()
    return run_id


def dispatch() -> None:
    """Start queued runs while there are free places. Cheap when there is nothing to do; call it whenever one looks."""
    with turn():
        waiting = [run for run in runs.every() if run.status.state in ("queued", "running")]
        free = places() - sum(run.status.state == "running" for run in waiting)
        queued = sorted((run for run in waiting if run.status.state == "queued"), key=lambda run: run.status.created)
        for run in queued[: max(0, free)]:
            _start(run)


def turn() -> FileLock:
    """The lock under which a run's state may be changed by anyone but its own process."""
    return FileLock(workspace.made(workspace.runs()) / ".queue.lock")


def _start(run: Run) -> None:
    who = process.start(["work", run.id], log=run.folder / "log.txt")
    now = time.time()
    states.write(
        run.folder, replace(run.status, state="running", stage="starting", started=now, heartbeat=now, owner=who)
    )


def stop(run_id: str) -> None:
    """Ask a run to stop: a queued one never starts, a running one ends after its batch and keeps its best model.

    Raises:
        UnknownName: no such run.
        BadInput: it has ended already.
    """
    with turn():
        run = runs.get(run_id)
        if run.status.state == "queued":
            states.write(
                run.folder,
                replace(run.status, state="stopped", ended=time.time(), reason="Stopped before it was started."),
            )
        elif run.status.state == "running":
            (run.folder / "stop").touch()
        else:
            raise BadInput(f"Run '{run_id}' has ended already ({run.status.state}); there is nothing to stop.")


def wait(run_id: str, look: Callable[[Run], None]) -> Run:
    """Return the run when it has ended; `look` is called with it about once a second until then."""
    while (run := runs.get(run_id)).status.state not in states.ENDED:
        look(run)
        dispatch()
        time.sleep(0.5)
    return run
