"""Deleted runs: kept for a week in `<home>/runs/.deleted/`, so that a deletion can be taken back."""

import json
import shutil
import time
from contextlib import suppress

from cxr_core import process, workspace
from cxr_core.errors import AlreadyExists, BadInput, UnknownName, WorkFailed
from cxr_core.runs import folder
from cxr_core.runs import status as states

KEPT_DAYS = 7


def delete(run_id: str) -> None:
    """Put a run's folder aside; what was put aside more than KEPT_DAYS ago is deleted for good.

    Raises:
        UnknownName: there is none.
        BadInput: it is running, or ships with the project.
    """
    place = folder.folder(run_id)
    if place.parent != workspace.runs():
        raise BadInput(f"Run '{run_id}' ships with the project and is not deleted from here.")
    with suppress(WorkFailed):  # a damaged one does not run
        status = states.read(place)
        if status.state == "running":
            raise BadInput(f"Run '{run_id}' is running. Stop it first: runs stop {run_id}")
        if status.owner is not None:  # a stopped one may still be predicting
            process.kill(status.owner)
    target = workspace.deleted_run(run_id)
    workspace.made(target.parent)
    shutil.rmtree(target, ignore_errors=True)
    place.replace(target)
    target.touch()  # its time says when it was deleted
    purge()


def restore(run_id: str) -> None:
    """Bring a deleted run back.

    Raises:
        UnknownName: none of this id was deleted within KEPT_DAYS; lists those that were.
        AlreadyExists: there is a run of this id.
    """
    source = workspace.deleted_run(run_id)
    if not source.is_dir():
        raise UnknownName("deleted run", run_id, deleted())
    target = workspace.run(run_id)
    if target.exists():
        raise AlreadyExists(f"There is a run '{run_id}'. Delete that one first.")
    source.replace(target)


def deleted() -> list[str]:
    """Ids of the runs that can be brought back, the latest deleted first."""
    place = workspace.deleted_run("x").parent
    return sorted(workspace.names_in(place), key=lambda name: -(place / name).stat().st_mtime)


def purge(*, days: float = KEPT_DAYS) -> None:
    """Delete for good what was deleted more than so many days ago, and frozen trunks on which no run stands any more."""
    for run_id in deleted():
        place = workspace.deleted_run(run_id)
        if time.time() - place.stat().st_mtime > days * 86400:
            shutil.rmtree(place, ignore_errors=True)
    used = set()
    for place in (workspace.runs(), workspace.runs() / ".deleted", workspace.pretrained()):
        for path in place.glob("*/trunk.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                used.add(json.loads(path.read_bytes())["digest"])
    active = any(run.status.state in ("queued", "running") for run in folder.every())
    if not active:  # a run that is being prepared has laid its trunk down before it says so
        for path in workspace.trunk("x").parent.glob("[!.]*"):  # weights, and graphs named <weights>-<graph>
            if path.name.split("-")[0].split(".")[0] not in used:
                path.unlink(missing_ok=True)
