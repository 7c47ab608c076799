"""Trainings: first come, first served, `max_concurrent_runs` at once; or all handed to a cluster (cluster.py).

There is no server: whoever looks, submits or finishes starts what is next, one at a time under a file lock. What keeps a
queued run from starting is kept in its status (`waits_for`), so looking never fails.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from cxr_core import machine, process, workspace
from cxr_core.errors import BadInput, CxrError, WorkFailed
from cxr_core.jobs import cluster, disk_space
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run

Move = Literal["first", "earlier", "later", "last"]
MOVES: tuple[Move, ...] = ("first", "earlier", "later", "last")
LOCK_SECONDS = 60.0  # that an action waits for another process that changes the queue
_MAX_FAILED_STARTS = 3  # in one dispatch: runs behind one that cannot start are tried, but not all of a thousand

_log = logging.getLogger(__name__)


class QueueBusy(WorkFailed):
    """Another process is changing the queue."""


def max_concurrent_runs() -> int:
    """How many runs train at once on this machine: `CXR_PLACES`, else one a graphics card, else 1.

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


@contextmanager
def queue_lock(*, timeout: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock under which a run's state may be changed by anyone but its own process.

    Never ask a network anything while holding it.

    Raises:
        QueueBusy: another process holds it for longer than `timeout` seconds.
    """
    with _held(workspace.ensure_dir(workspace.runs()) / ".queue.lock", timeout):
        yield


@contextmanager
def _held(path: Path, timeout: float) -> Iterator[None]:
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


def dispatch(*, timeout: float = LOCK_SECONDS) -> list[Run]:
    """Start queued runs up to the limit, or hand them to the cluster, and return all runs as they were before, newest first.

    Cheap when there is nothing to do; call it whenever a run was queued or has ended. What keeps a run from starting is
    kept in its status, `waits_for`.

    Args:
        timeout: seconds to wait for another process that does the same; then it is left to that one.
    """
    found = runs.list_runs()
    _log_ended(found)
    try:
        if cluster.address():
            if any(_concerns_cluster(run) for run in found):
                _hand_over(timeout)
        elif _may_start(found):
            with queue_lock(timeout=timeout):
                _start_next(runs.list_runs())
    except QueueBusy:
        _log.debug("Another process is starting runs.")
    except CxrError as error:  # the environment is wrong, or the workspace cannot be written
        for run in waiting_runs(found)[:1]:
            _keep_obstacle(run.id, str(error))
    return found


def _may_start(found: Sequence[Run]) -> bool:
    """Whether there is anything to do, as far as can be told without the lock."""
    queued = waiting_runs(found)
    return bool(queued) and (_free(found) > 0 or any(run.status.waits_for for run in queued))


def _free(found: Sequence[Run]) -> int:
    return max_concurrent_runs() - sum(run.status.state == "running" for run in found)


def _start_next(found: Sequence[Run]) -> None:
    """Start what is next on this machine; call it under `queue_lock`."""
    free, failed = _free(found), 0
    taken = {card for run in found if run.status.state == "running" for card in run.status.cards.split(",")}
    cards = [card for card in machine.gpu_ids() if card not in taken]
    share = max(1, len(machine.gpu_ids()) // max_concurrent_runs())
    queued = waiting_runs(found)
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


def waiting_runs(found: Sequence[Run]) -> list[Run]:
    """The queued ones of `found`, the next to start first."""
    queued = [run for run in found if run.status.state == "queued"]
    return sorted(queued, key=lambda run: run.status.turn or run.status.created)


def obstacle(run: Run) -> str:
    """What keeps a queued run from starting when it is its turn, as a sentence; empty if nothing does."""
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
        _log.debug("The obstacle of run %s was not kept: %s", run_id, error)


def _write_obstacle(run: Run, sentence: str) -> None:
    """Keep with a queued run what it waits for; call it under `queue_lock`."""
    if run.status.state != "queued" or run.status.waits_for == sentence:
        return
    if sentence:
        _log.warning("Run %s cannot start. %s", run.id, sentence)
    try:
        states.write(run.folder, replace(run.status, waits_for=sentence))
    except WorkFailed:  # the disk is full, which is told by `obstacle` all the same
        _log.warning("What run %s waits for could not be written.", run.id)


def claim(run_id: str) -> Run:
    """Make a run that waits, or was interrupted, this process's own to train, and return it.

    Raises:
        UnknownName: no such run.
        BadInput: it has ended, or another process trains it.
    """
    with queue_lock():  # whoever started this process still writes down that it did
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


def _concerns_cluster(run: Run) -> bool:
    """Whether a run has to be handed over, or may have lost its machine."""
    if run.status.state == "queued":
        return not run.status.job or run.status.revived < cluster.REVIVALS
    return run.status.state == "interrupted" and bool(run.status.job) and run.status.revived < cluster.REVIVALS


def _hand_over(timeout: float) -> None:
    """Give queued runs to the cluster, which starts them when it has room, and bring back those whose machine was lost.

    Under a lock of its own: while the cluster is asked, which may take long, runs can still be stopped and begin.

    Raises:
        QueueBusy: another process does the same.
        WorkFailed: the cluster cannot be reached.
        BadInput: the environment asks for something that cannot be.
    """
    with _held(workspace.ensure_dir(workspace.runs()) / ".cluster.lock", timeout):
        for run in runs.list_runs():
            if run.status.job and _concerns_cluster(run) and _is_lost(run):
                _revive(run)
        for run in waiting_runs(runs.list_runs()):
            if disk_space.shortage(run.config):
                return
            if not run.status.job:
                _submit_to_cluster(run)


def _is_lost(run: Run) -> bool:
    return run.status.state == "interrupted" or cluster.has_failed(run.status.job)


def _revive(run: Run) -> None:
    with queue_lock():
        status = runs.get(run.id).status
        if (status.state, status.job) != (run.status.state, run.status.job):  # it has begun, or was stopped, meanwhile
            return
        _requeue(run, revived=status.revived + 1)
    _log.warning("The machine that trained run %s was lost; the run goes on elsewhere.", run.id)


def _submit_to_cluster(run: Run) -> None:
    """The job is written down before the cluster hears of it: the run may begin before this process has its answer."""
    job = cluster.job_name(run.id, run.status.revived)
    if not _write_job(run.id, before="", job=job):
        return
    try:
        cluster.submit(run.id, job)
    except BaseException:
        _write_job(run.id, before=job, job="")
        raise
    _log.info("Run %s was handed to the cluster as %s.", run.id, job)


def _write_job(run_id: str, *, before: str, job: str) -> bool:
    """Whether the run still waits as job `before`, and so is job `job` now."""
    with queue_lock():
        run = runs.get(run_id)
        if run.status.state != "queued" or run.status.job != before:
            return False
        stage = "waiting for the cluster" if job else ""
        states.write(run.folder, replace(run.status, job=job, stage=stage, waits_for=""))
        return True


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
    _log.info("Run %s was resumed.", run_id)
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


def _log_ended(found: Sequence[Run]) -> None:
    """Log how runs ended that this process has seen running: their own processes log to the run's folder."""
    for run in found:
        if run.status.state == "running":
            _seen_running.add(run.id)
        elif run.id in _seen_running:
            _seen_running.discard(run.id)
            level = logging.INFO if run.status.state in ("finished", "stopped") else logging.WARNING
            _log.log(level, "Run %s ended: %s.", run.id, run.status.state)
