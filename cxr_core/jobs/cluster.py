"""Trainings on a Ray cluster instead of this machine: `CXR_EXECUTOR=ray`, and `RAY_ADDRESS` for where it is.

Every run is a Ray job of its own, `python -m cxr_core work RUN`, on any machine with room that sees the same `CXR_HOME`. Ray
decides when and where. All else, progress, stop, results, goes through the run's folder as it does on one machine.

    CXR_EXECUTOR=ray                    hand runs to a cluster
    RAY_ADDRESS=http://head:8265        its dashboard; by default http://127.0.0.1:8265
    CXR_RAY_GPUS=1 CXR_RAY_CPUS=1       what each run is given; by default a processor, and a graphics card if there are any

Needs `pip install -r requirements-ray.txt` here and on every machine of the cluster.
"""

import logging
import os
import secrets
import shlex
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cxr_core import locks, process, workspace
from cxr_core.errors import BadInput, CxrError, WorkFailed
from cxr_core.jobs import disk_space
from cxr_core.jobs.queue_state import queue_lock, requeue, waiting_runs
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.run_store import Run

REVIVALS = 5  # a run whose machine is lost more often than that is left interrupted
SECONDS = 10.0  # that an answer is waited for
_PAUSE = 30.0  # seconds in which a cluster that did not answer is not asked again

_log = logging.getLogger(__name__)


def address() -> str:
    """Address of the cluster; empty if runs train on this machine.

    Raises:
        BadInput: `CXR_EXECUTOR` asks for something else.
    """
    executor = os.environ.get("CXR_EXECUTOR") or "local"
    if executor not in ("local", "ray"):
        raise BadInput(f"CXR_EXECUTOR is local or ray. Received: '{executor}'.")
    return (os.environ.get("RAY_ADDRESS") or "http://127.0.0.1:8265") if executor == "ray" else ""


def needs_cluster(run: Run) -> bool:
    """True if a run has to be handed over, or may have lost its machine."""
    if run.status.state == "queued":
        return not run.status.job or run.status.revived < REVIVALS
    return run.status.state == "interrupted" and bool(run.status.job) and run.status.revived < REVIVALS


def hand_over(timeout: float) -> None:
    """Give queued runs to the cluster, which starts them when it has room, and bring back those whose machine was lost.

    Under a lock of its own: while the cluster is asked, which may take long, runs can still be stopped and begin.

    Raises:
        Busy: another process does the same.
        WorkFailed: the cluster cannot be reached.
        BadInput: the environment asks for something that cannot be.
    """
    lock = workspace.ensure_dir(workspace.runs()) / ".cluster.lock"
    with locks.hold(lock, "the hand-over to the cluster", timeout=timeout):
        for run in runs.list_runs():
            if run.status.job and needs_cluster(run) and _is_lost(run):
                _revive(run)
        for run in waiting_runs(runs.list_runs()):
            if disk_space.shortage(run.config):
                return
            if not run.status.job:
                _submit_run(run)


def _is_lost(run: Run) -> bool:
    return run.status.state == "interrupted" or _has_failed(run.status.job)


def _revive(run: Run) -> None:
    with queue_lock():
        status = runs.get(run.id).status
        if (status.state, status.job) != (run.status.state, run.status.job):  # it has begun, or was stopped, meanwhile
            return
        requeue(run, revived=status.revived + 1)
    _log.warning("The machine that trained run %s was lost; the run resumes elsewhere.", run.id)


def _submit_run(run: Run) -> None:
    """Write down a job, then hand it over: the run may begin before this process has the cluster's answer."""
    job = f"{run.id}-{run.status.revived}-{secrets.token_hex(4)}"  # no job has had this name yet
    if not _write_job(run.id, before="", job=job):
        return
    try:
        _submit_job(run.id, job)
    except BaseException:
        _write_job(run.id, before=job, job="")
        raise
    _log.info("Run %s was handed to the cluster as %s.", run.id, job)


def _write_job(run_id: str, *, before: str, job: str) -> bool:
    """Change the job of a run that still waits as job `before`; False if it does not."""
    with queue_lock():
        run = runs.get(run_id)
        if run.status.state != "queued" or run.status.job != before:
            return False
        stage = "waiting for the cluster" if job else ""
        states.write(run.folder, replace(run.status, job=job, stage=stage, waits_for=""))
        return True


def _submit_job(run_id: str, job: str) -> None:
    """Hand a queued run over as the job `job`.

    Raises:
        WorkFailed: the cluster cannot be reached or does not answer.
        BadInput: Ray is not installed here, or an amount is no number.
    """
    package = Path(__file__).resolve().parent.parent
    command = shlex.join([sys.executable, "-m", package.name, "work", run_id])
    log = shlex.quote(str(workspace.run(run_id) / "log.txt"))
    cpus, gpus = _amount("CXR_RAY_CPUS"), _amount("CXR_RAY_GPUS")
    if gpus is None:
        gpus = float(_has_gpus(address()))
    _ask(
        lambda client: client.submit_job(
            entrypoint=f"exec {command} >> {log} 2>&1",
            submission_id=job,
            entrypoint_num_cpus=1 if cpus is None else cpus,
            entrypoint_num_gpus=gpus or None,
            runtime_env={
                "env_vars": {
                    **process.speed_variables(),
                    "CXR_HOME": str(workspace.home()),
                    "PYTHONPATH": str(package.parent),
                    "PYTHONUNBUFFERED": "1",
                    "CXR_EXECUTOR": "ray",  # a run that ends hands over what waits, as it does on one machine
                    "RAY_ADDRESS": address(),
                }
            },
        )
    )


def _has_failed(job: str) -> bool:
    """True if the cluster has given this job up, or, started anew, knows nothing of it.

    Raises:
        WorkFailed: the cluster cannot be reached or does not answer: then nothing is known.
        BadInput: Ray is not installed here.
    """

    def failed(client: Any) -> bool:
        try:
            return str(client.get_job_status(job)) in ("FAILED", "STOPPED")
        except RuntimeError as error:  # how its client tells every HTTP status but 200
            if "status code 404" in str(error):
                return True
            raise

    return bool(_ask(failed))


def stop(job: str) -> None:
    """Take back a job that has not begun; nothing happens without one.

    Raises:
        WorkFailed: the cluster cannot be reached or does not answer.
        BadInput: Ray is not installed here.
    """
    if job and address():
        _ask(lambda client: client.stop_job(job))


_silent: dict[str, float] = {}  # addresses that did not answer, and until when they are left alone (monotonic seconds)


def _ask(question: Callable[[Any], Any]) -> Any:
    """The answer of the cluster's client, within SECONDS.

    Raises:
        WorkFailed: the cluster cannot be reached, refuses, or does not answer.
        BadInput: Ray is not installed here.
    """
    where = address()
    hint = "Start it with: ray start --head, or set RAY_ADDRESS to its dashboard."
    silent = WorkFailed(f"The Ray cluster at {where} does not answer. {hint}")
    if time.monotonic() < _silent.get(where, 0.0):
        raise silent
    limit = time.monotonic() + SECONDS

    def look() -> None:
        if time.monotonic() > limit:
            _silent[where] = time.monotonic() + _PAUSE
            raise silent

    try:
        return process.attended(lambda: question(_client(where)), look)  # Ray's client waits without limit
    except CxrError:
        raise
    except Exception as error:  # of Ray, requests or urllib, in all their kinds
        _log.debug("The cluster failed.", exc_info=True)
        raise WorkFailed(
            f"The Ray cluster at {where} cannot be reached or refuses ({type(error).__name__}: {str(error)[:200]}). {hint}"
        ) from error


@lru_cache(maxsize=1)
def _client(where: str) -> Any:
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise BadInput(
            "CXR_EXECUTOR=ray needs Ray, which is not installed. Install it with: pip install -r requirements-ray.txt"
        ) from error
    return JobSubmissionClient(where)


@lru_cache(maxsize=1)
def _has_gpus(where: str) -> bool:
    """True if any machine of the cluster has a graphics card that it gives to jobs.

    Raises:
        WorkFailed: it does not tell.
    """
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{where}/api/cluster_status", headers=headers), timeout=SECONDS
        ) as response:
            return '"GPU"' in response.read().decode()
    except (OSError, ValueError) as error:
        raise WorkFailed(
            f"The Ray cluster at {where} does not tell whether it has graphics cards ({error}). Set CXR_RAY_GPUS to how many "
            "each run is given, 0 for none."
        ) from error


def _amount(variable: str) -> float | None:
    """The number that an environment variable holds; None where it is not set."""
    text = os.environ.get(variable)
    try:
        return float(text) if text else None
    except ValueError as error:
        raise BadInput(f"{variable} is a number. Received: '{text}'.") from error
