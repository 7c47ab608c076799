"""Trainings: first come, first served, `max_concurrent_runs` at once; or all handed to a cluster (cluster.py).

There is no server: every process that looks, submits or finishes starts the next, one at a time under a file lock. What keeps a
queued run from starting is stored in its status (`waits_for`), so looking never fails.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from cxr_core import locks, machine, process, workspace
from cxr_core.errors import BadInput, Busy, CxrError, WorkFailed
from cxr_core.jobs import cluster, disk_space
from cxr_core.jobs.queue_state import queue_lock, requeue, waiting_runs
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run

Move = Literal["first", "earlier", "later", "last"]
MOVES: tuple[Move, ...] = ("first", "earlier", "later", "last")
_MAX_FAILED_STARTS = 3  # in one dispatch: runs behind one that cannot start are tried, but not all of a thousand

_log = logging.getLogger(__name__)


def max_concurrent_runs() -> int:
    """Number of runs that train at once on this machine: `CXR_PLACES`, else one a graphics card, else 1.

    Raises:
        BadInput: the variable is no whole number.
    """
    text = os.environ.get("CXR_PLACES") or str(len(machine.gpu_ids()))
    try:
        return max(1, int(text))
    except ValueError as error:
        raise BadInput(f"CXR_PLACES, how many runs train at once, is a whole number. Received: '{text}'.") from error


def submit(config: RunConfig) -> str:
    """Queue a run, start it if it is its turn, and return its id.

    Raises:
        BadInput: the environment asks for a backend, an executor or a number of runs that cannot be; nothing is queued.
    """
    machine.check_backend()
    if not cluster.address():
        max_concurrent_runs()
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


def look() -> list[Run]:
    """All runs, newest first; queued ones are started in passing, without making the caller wait or fail."""
    try:
        remote = bool(cluster.address())
    except BadInput:  # `dispatch` keeps the sentence with what waits
        remote = False
    if not remote:
        return dispatch(timeout=0)
    if _looking.acquire(blocking=False):  # a cluster may be slow, or silent
        threading.Thread(target=_dispatch_aside, name="dispatch", daemon=True).start()
    return runs.list_runs()


_looking = threading.Lock()


def _dispatch_aside() -> None:
    try:
        dispatch(timeout=0)
    finally:
        _looking.release()


def dispatch(*, timeout: float = locks.SECONDS) -> list[Run]:
    """Start queued runs up to the limit, or hand them to the cluster, and return all runs as they were before, newest first.

    Cheap when there is nothing to do; call it whenever a run was queued or has ended. What keeps a run from starting is
    stored in its status, `waits_for`.

    Args:
        timeout: seconds to wait for another process that does the same; then it is left to that one.
    """
    all_runs = runs.list_runs()
    _log_ended(all_runs)
    try:
        if cluster.address():
            if any(cluster.needs_cluster(run) for run in all_runs):
                cluster.hand_over(timeout)
        elif _may_start(all_runs):
            with queue_lock(timeout=timeout):
                _start_next(runs.list_runs())
    except Busy:
        _log.debug("Another process is starting runs.")
    except CxrError as error:  # the environment is wrong, or the workspace cannot be written
        for run in waiting_runs(all_runs)[:1]:
            _keep_obstacle(run.id, str(error))
    return all_runs


def _may_start(all_runs: Sequence[Run]) -> bool:
    """True if there may be something to start, as far as can be told without the lock."""
    queued = waiting_runs(all_runs)
    return bool(queued) and (_free(all_runs) > 0 or any(run.status.waits_for for run in queued))


def _free(all_runs: Sequence[Run]) -> int:
    return max_concurrent_runs() - sum(run.status.state == "running" for run in all_runs)


def _start_next(all_runs: Sequence[Run]) -> None:
    """Start what is next on this machine; call it under `queue_lock`."""
    free, failed = _free(all_runs), 0
    taken = {card for run in all_runs if run.status.state == "running" for card in run.status.cards.split(",")}
    cards = [card for card in machine.gpu_ids() if card not in taken]
    share = max(1, len(machine.gpu_ids()) // max_concurrent_runs())
    queued = waiting_runs(all_runs)
    while queued and free > 0 and failed < _MAX_FAILED_STARTS:
        run = queued[0]
        if disk_space.shortage(run.config):  # else a full disk would let all that wait fail, one after the other
            break
        try:
            _start(run, ",".join(cards[:share]))
        except (CxrError, OSError) as error:
            _write_obstacle(run, _sentence(error))
            failed += 1
        else:
            cards, free = cards[share:], free - 1
        del queued[0]
    for run in queued:  # nothing but its turn is missing to them
        if run.status.waits_for:
            _write_obstacle(run, "")


def obstacle(run: Run) -> str:
    """The sentence that says what keeps a queued run from starting when it is its turn; empty if nothing does."""
    return run.status.waits_for or disk_space.shortage(run.config)


def _start(run: Run, cards: str) -> None:
    variables = {"CUDA_VISIBLE_DEVICES": cards} if cards else {}
    owner = process.start(["work", run.id], log=run.folder / "log.txt", variables=variables)
    now = time.time()
    status = replace(
        run.status,
        state="running",
        stage="starting",
        started=now,
        heartbeat=now,
        owner=owner,
        cards=cards,
        waits_for="",
    )
    try:
        states.write(run.folder, status)
    except WorkFailed:
        process.kill(owner)  # it reads as queued, and the next look would start a second one
        raise
    _seen_running.add(run.id)
    _log.info("Run %s started as process %d.", run.id, owner["pid"])


def _sentence(error: Exception) -> str:
    if isinstance(error, CxrError):
        return str(error)
    return f"Its process could not be started ({type(error).__name__}: {error}). It is tried again."


def _keep_obstacle(run_id: str, sentence: str) -> None:
    try:
        with queue_lock(timeout=0):
            _write_obstacle(runs.get(run_id), sentence)
    except CxrError as error:  # somebody else is at it, or the run was deleted
        _log.debug("The obstacle of run %s was not saved: %s", run_id, error)


def _write_obstacle(run: Run, sentence: str) -> None:
    """Keep with a queued run what it waits for; call it under `queue_lock`."""
    if run.status.state != "queued" or run.status.waits_for == sentence:
        return
    if sentence:
        _log.warning("Run %s cannot start. %s", run.id, sentence)
    try:
        states.write(run.folder, replace(run.status, waits_for=sentence))
    except WorkFailed:  # the disk is full, which `obstacle` reports all the same
        _log.warning("What run %s waits for could not be written.", run.id)


def claim(run_id: str) -> Run:
    """Make a run that waits, or was interrupted, this process's own to train, and return it.

    Raises:
        UnknownName: no such run.
        BadInput: it has ended, or another process trains it.
    """
    with queue_lock():  # the process that started this one still writes down that it did
        run = runs.get(run_id)
        status, this = run.status, process.process_id()
        owner = status.owner
        if (
            status.state == "running"
            and owner is not None
            and (owner["host"], owner["pid"]) == (this["host"], this["pid"])
        ):
            return run
        if status.state not in ("queued", "interrupted"):
            raise BadInput(f"Run '{run_id}' is {status.state}; only one that waits is trained. Nothing was changed.")
        begun = replace(status, state="running", stage="starting", heartbeat=time.time(), owner=this, waits_for="")
        states.write(run.folder, begun)
        return replace(run, status=begun)


def stop(run_id: str) -> None:
    """Ask a run to stop: a queued one never starts, a running one ends after its batch and keeps its best model.

    Raises:
        UnknownName: no such run.
        BadInput: it has ended already.
    """
    with queue_lock():
        run = runs.get(run_id)
        if run.status.state == "queued":
            reason = "Stopped before it was started."
            states.write(run.folder, replace(run.status, state="stopped", stage="", ended=time.time(), reason=reason))
        elif run.status.state == "running":
            (run.folder / "stop").touch()
        else:
            raise BadInput(f"Run '{run_id}' has ended already ({run.status.state}); there is nothing to stop.")
    _log.info("Run %s was asked to stop while it was %s.", run_id, run.status.state)
    if run.status.state == "queued" and run.status.job:
        try:
            cluster.stop(run.status.job)
        except CxrError as error:  # its process will meet a run that is stopped, and end
            _log.warning("The cluster could not be told that run %s is stopped. %s", run_id, error)


def resume(run_id: str) -> None:
    """Queue a run that was stopped or interrupted or has failed once more; it resumes after its last whole epoch.

    Raises:
        UnknownName: no such run.
        BadInput: it is queued or running, or finished, or ships with the project.
    """
    machine.check_backend()
    with queue_lock():
        run = runs.get(run_id)
        if run.status.state not in ("stopped", "failed", "interrupted") or run.folder.parent != workspace.runs():
            raise BadInput(
                f"Run '{run_id}' is {run.status.state}. Only one that was stopped or interrupted, or has failed, can be resumed; "
                f"to train a finished one longer, copy it: runs duplicate {run_id} --set epochs=…"
            )
        requeue(run, revived=0)
    _log.info("Run %s was resumed.", run_id)
    dispatch()


def move(run_id: str, to: Move) -> None:
    """Change when a queued run starts, among the queued ones.

    Raises:
        UnknownName: no such run.
        BadInput: it is not queued.
    """
    with queue_lock():
        order = waiting_runs(runs.list_runs())
        index = next((index for index, run in enumerate(order) if run.id == run_id), None)
        if index is None:
            raise BadInput(f"Run '{run_id}' is {runs.get(run_id).status.state}; only a queued one can be moved.")
        moved = order.pop(index)
        order.insert({"first": 0, "earlier": max(0, index - 1), "later": index + 1, "last": len(order)}[to], moved)
        turns = sorted(run.status.turn or run.status.created for run in order)
        for run, turn in zip(order, turns, strict=True):
            if run.status.turn != turn:
                states.write(run.folder, replace(run.status, turn=turn))


def wait(run_id: str, look_at: Callable[[Run], None]) -> Run:
    """Return the run when it has ended; `look_at` is called with it about once a second until then."""
    while (run := runs.get(run_id)).status.at_work:
        look_at(run)
        dispatch(timeout=0)
        time.sleep(0.5)
    return run


_seen_running: set[str] = set()


def _log_ended(all_runs: Sequence[Run]) -> None:
    """Log how runs ended that this process has seen running: their own processes log to the run's folder."""
    for run in all_runs:
        if run.status.state == "running":
            _seen_running.add(run.id)
        elif run.id in _seen_running:
            _seen_running.discard(run.id)
            level = logging.INFO if run.status.state in ("finished", "stopped") else logging.WARNING
            _log.log(level, "Run %s ended: %s.", run.id, run.status.state)
