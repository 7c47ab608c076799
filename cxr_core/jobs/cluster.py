"""Trainings on a Ray cluster instead of this machine: `CXR_EXECUTOR=ray`, and `RAY_ADDRESS` for where it is.

Every run is a Ray job of its own, `python -m cxr_core work RUN`, on any machine with room that sees the same `CXR_HOME`. Ray
decides when and where. All else, progress, stop, results, goes through the run's folder as it does on one machine.

    CXR_EXECUTOR=ray                    hand runs to a cluster
    RAY_ADDRESS=http://head:8265        its dashboard; by default http://127.0.0.1:8265
    CXR_RAY_GPUS=1 CXR_RAY_CPUS=1       what each run is given; by default a processor, and a graphics card if there are any

Needs `pip install -r requirements-ray.txt` here and on every machine of the cluster.
"""

import os
import sys
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import Any

from cxr_core import process, workspace
from cxr_core.errors import BadInput, WorkFailed

REVIVALS = 5  # a run whose machine is lost more often than that is left interrupted


def address() -> str:
    """Where the cluster is; empty if runs train on this machine.

    Raises:
        BadInput: `CXR_EXECUTOR` asks for something else.
    """
    asked = os.environ.get("CXR_EXECUTOR") or "local"
    if asked not in ("local", "ray"):
        raise BadInput(f"CXR_EXECUTOR is local or ray. Received: '{asked}'.")
    return (os.environ.get("RAY_ADDRESS") or "http://127.0.0.1:8265") if asked == "ray" else ""


def submit(run_id: str) -> str:
    """Hand a queued run over; returns what the cluster calls it.

    Raises:
        WorkFailed: the cluster cannot be reached.
        BadInput: Ray is not installed here, or an amount is no number.
    """
    package = Path(__file__).resolve().parent.parent
    log = workspace.run(run_id) / "log.txt"
    cards = _amount("CXR_RAY_GPUS", float(_has_cards(address())))
    job: str = _client(address()).submit_job(
        entrypoint=f"exec {sys.executable} -m {package.name} work {run_id} >> '{log}' 2>&1",
        entrypoint_num_cpus=_amount("CXR_RAY_CPUS", 1),
        entrypoint_num_gpus=cards or None,
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
    return job


def has_failed(job: str) -> bool:
    """Whether the cluster has given this job up before its process said anything."""
    try:
        return str(_client(address()).get_job_status(job)) in ("FAILED", "STOPPED")
    except RuntimeError:  # a cluster that was started anew knows nothing of it
        return True


def stop(job: str) -> None:
    """Take back a job that has not begun; nothing happens without one."""
    if job and address():
        _client(address()).stop_job(job)


@lru_cache(maxsize=1)
def _client(where: str) -> Any:
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise BadInput(
            "CXR_EXECUTOR=ray needs Ray, which is not installed. Install it with: pip install -r requirements-ray.txt"
        ) from error
    try:
        return JobSubmissionClient(where)
    except (ConnectionError, RuntimeError) as error:
        raise WorkFailed(
            f"The Ray cluster at {where} cannot be reached. Start it with: ray start --head, or set RAY_ADDRESS to its dashboard."
        ) from error


@lru_cache(maxsize=1)
def _has_cards(where: str) -> bool:
    """Whether any machine of the cluster has a graphics card that it gives to jobs."""
    try:
        with urllib.request.urlopen(f"{where}/api/cluster_status", timeout=10) as answer:
            return '"GPU"' in answer.read().decode()
    except OSError:
        return False


def _amount(variable: str, usual: float) -> float:
    asked = os.environ.get(variable)
    try:
        return float(asked) if asked else usual
    except ValueError as error:
        raise BadInput(f"{variable} is a number. Received: '{asked}'.") from error
