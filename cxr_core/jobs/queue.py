"""Trainings: first come, first served, as many at once as there are places; or all handed to a cluster (cluster.py).

There is no server: whoever looks, submits or finishes starts what is next, one at a time under a file lock.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from filelock import FileLock

from cxr_core import machine, process, workspace
from cxr_core.errors import BadInput, WorkFailed
from cxr_core.jobs import cluster, disk_space
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run

Move = Literal["first", "earlier", "later", "last"]
MOVES: tuple[Move, ...] = ("first", "earlier", "later", "last")


def max_concurrent_runs() -> int:
    """How many runs train at once on this machine: `CXR_PLACES`, else one a graphics card, else 1.

    Raises:
        BadInput: the variable is no whole number.
    """
    asked = os.environ.get("CXR_PLACES") or str(len(machine.gpu_ids()))
    try:
        return max(1, int(asked))
    except ValueError as error:
        raise BadInput(f"CXR_PLACES, how many runs train at once, is a whole number. Received: '{asked}'.") from error


def submit(config: RunConfig) -> str:
    """Queue a run, start it if there is a place, and return its id.

    Raises:
        BadInput: what Keras is asked to compute on is not there.
    """
    machine.check_backend()
    run_id = runs.create(config)
    dispatch()
    return run_id


def duplicate(run_id: str, changes: Mapping[str, Any]) -> str:
    """Queue a run with the settings and frozen splits of another one, but for `changes`, and return its id.

    Raises:
        UnknownName: no such run or setting.
        BadInput: a value out of range.
    """
    return submit(replace(settings.with_settings(runs.get(run_id).config, changes), group=""))


def dispatch() -> list[Run]:
    """Start queued runs while there are free places, and return all runs as they were before, newest first.

    Cheap when there is nothing to do; call it whenever one looks.
    """
    with queue_lock():
        found = runs.list_runs()
        if cluster.address():
            _hand_over(found)
        else:
            _fill(found)
    return found


def queue_lock() -> FileLock:
    """The lock under which a run's state may be changed by anyone but its own process."""
    return FileLock(workspace.ensure_dir(workspace.runs()) / ".queue.lock")


def _fill(found: Sequence[Run]) -> None:
    running = [run for run in found if run.status.state == "running"]
    free = max_concurrent_runs() - len(running)
    if free <= 0:
        return
    taken = {one for run in running for one in run.status.cards.split(",")}
    cards = [one for one in machine.gpu_ids() if one not in taken]
    share = max(1, len(machine.gpu_ids()) // max_concurrent_runs())
    for run in waiting_runs(found)[:free]:
        if disk_space.shortage(run.config):  # else a full disk would let all that wait fail, one after the other
            return
        own, cards = cards[:share], cards[share:]
        _start(run, ",".join(own))


def waiting_runs(found: Sequence[Run]) -> list[Run]:
    """The queued ones of `found`, the next to start first."""
    queued = [run for run in found if run.status.state == "queued"]
    return sorted(queued, key=lambda run: run.status.turn or run.status.created)


def _start(run: Run, cards: str) -> None:
    variables = {"CUDA_VISIBLE_DEVICES": cards} if cards else {}
    who = process.start(["work", run.id], log=run.folder / "log.txt", variables=variables)
    now = time.time()
    begun = replace(run.status, state="running", stage="starting", started=now, heartbeat=now, owner=who, cards=cards)
    try:
        states.write(run.folder, begun)
    except WorkFailed:
        process.kill(who)  # it reads as queued, and the next look would start a second one
        raise


def claim(run_id: str) -> Run:
    """Make a run that waits, or was interrupted, this process's own to train, and return it.

    Raises:
        UnknownName: no such run.
        BadInput: it has ended, or another process trains it.
    """
    with queue_lock():  # whoever started this process still writes down that it did
        run = runs.get(run_id)
        status, own = run.status, process.process_id()
        by = status.owner
        if status.state == "running" and by is not None and (by["host"], by["pid"]) == (own["host"], own["pid"]):
            return run
        if status.state not in ("queued", "interrupted"):
            raise BadInput(f"Run '{run_id}' is {status.state}; only one that waits is trained. Nothing was changed.")
        begun = replace(status, state="running", stage="starting", heartbeat=time.time(), owner=own)
        states.write(run.folder, begun)
        return replace(run, status=begun)


def _hand_over(found: Sequence[Run]) -> None:
    """Give queued runs to the cluster, which starts them when it has room, and bring back those whose machine was lost."""
    for run in found:
        if run.status.job and run.status.revived < cluster.REVIVALS and _is_lost(run):
            print(f"The machine that trained {run.id} was lost; it goes on elsewhere.", file=sys.stderr, flush=True)
            _requeue(run, revived=run.status.revived + 1)
    for run in waiting_runs(runs.list_runs()):
        if disk_space.shortage(run.config):
            return
        if not run.status.job:
            states.write(run.folder, replace(run.status, job=cluster.submit(run.id), stage="waiting for the cluster"))


def _is_lost(run: Run) -> bool:
    if run.status.state == "interrupted":
        return True
    return run.status.state == "queued" and cluster.has_failed(run.status.job)


def stop(run_id: str) -> None:
    """Ask a run to stop: a queued one never starts, a running one ends after its batch and keeps its best model.

    Raises:
        UnknownName: no such run.
        BadInput: it has ended already.
    """
    with queue_lock():
        run = runs.get(run_id)
        if run.status.state == "queued":
            cluster.stop(run.status.job)
            states.write(
                run.folder,
                replace(run.status, state="stopped", ended=time.time(), reason="Stopped before it was started."),
            )
        elif run.status.state == "running":
            (run.folder / "stop").touch()
        else:
            raise BadInput(f"Run '{run_id}' has ended already ({run.status.state}); there is nothing to stop.")


def resume(run_id: str) -> None:
    """Queue a run that was stopped or interrupted or has failed once more; it goes on after its last whole epoch.

    Raises:
        UnknownName: no such run.
        BadInput: it is queued or running, or finished, or ships with the project.
    """
    machine.check_backend()
    with queue_lock():
        run = runs.get(run_id)
        if run.status.state not in ("stopped", "failed", "interrupted") or run.folder.parent != workspace.runs():
            raise BadInput(
                f"Run '{run_id}' is {run.status.state}. Only one that was stopped or interrupted, or has failed, can go on; "
                f"to train a finished one longer, copy it: runs duplicate {run_id} --set epochs=…"
            )
        _requeue(run, revived=0)
    dispatch()


def _requeue(run: Run, *, revived: int) -> None:
    if run.status.owner is not None:
        process.kill(run.status.owner)  # a stopped one may still be predicting
    (run.folder / "stop").unlink(missing_ok=True)
    now = time.time()
    fresh = states.Status(
        created=run.status.created, turn=now, epoch=run.status.epoch, epochs=run.config.epochs, revived=revived
    )
    states.write(run.folder, fresh)


def move(run_id: str, to: Move) -> None:
    """Change when a queued run starts, among the queued ones.

    Raises:
        UnknownName: no such run.
        BadInput: it is not queued.
    """
    with queue_lock():
        order = waiting_runs(runs.list_runs())
        place = next((number for number, run in enumerate(order) if run.id == run_id), None)
        if place is None:
            raise BadInput(f"Run '{run_id}' is {runs.get(run_id).status.state}; only a queued one can be moved.")
        run = order.pop(place)
        order.insert({"first": 0, "earlier": max(0, place - 1), "later": place + 1, "last": len(order)}[to], run)
        turns = sorted(one.status.turn or one.status.created for one in order)
        for one, when in zip(order, turns, strict=True):
            if one.status.turn != when:
                states.write(one.folder, replace(one.status, turn=when))


def wait(run_id: str, look: Callable[[Run], None]) -> Run:
    """Return the run when it has ended; `look` is called with it about once a second until then."""
    while (run := runs.get(run_id)).status.at_work:
        look(run)
        dispatch()
        time.sleep(0.5)
    return run
