"""Deleted runs: they stay for a week in `<home>/runs/.deleted/`, so that a deletion can be undone."""

import json
import time
from contextlib import suppress
from pathlib import Path

from cxr_core import process, trash, workspace
from cxr_core.errors import AlreadyExists, BadInput, UnknownName, WorkFailed
from cxr_core.runs import run_store
from cxr_core.runs import status as states

RETENTION_DAYS = trash.RETENTION_DAYS


def delete(run_id: str) -> None:
    """Put a run's folder aside; what was put aside more than RETENTION_DAYS ago is deleted for good.

    Raises:
        UnknownName: there is none.
        BadInput: it is running, or ships with the project.
    """
    folder = run_store.folder(run_id)
    if folder.parent != workspace.runs():
        raise BadInput(f"Run '{run_id}' ships with the project and is not deleted from here.")
    with suppress(WorkFailed):  # a damaged one does not run
        status = states.read(folder)
        if status.state == "running":
            raise BadInput(f"Run '{run_id}' is running. Stop it first: runs stop {run_id}")
        if status.owner is not None:  # a stopped one may still be predicting
            process.kill(status.owner)
    trash.put_aside(folder, workspace.deleted_run(run_id))
    purge()


def restore(run_id: str) -> None:
    """Bring a deleted run back.

    Raises:
        UnknownName: none of this id was deleted within RETENTION_DAYS; lists those that were.
        AlreadyExists: there is a run of this id.
    """
    source = workspace.deleted_run(run_id)
    if not source.is_dir():
        raise UnknownName("deleted run", run_id, list_deleted())
    target = workspace.run(run_id)
    if target.exists():
        raise AlreadyExists(f"There is a run '{run_id}'. Delete that one first.")
    trash.bring_back(source, target)


def list_deleted() -> list[str]:
    """Ids of the runs that can be brought back, the latest deleted first."""
    return trash.names(workspace.deleted_run("x").parent)


def purge(*, days: float = RETENTION_DAYS) -> None:
    """Delete for good the runs deleted more than `days` ago, and the frozen backbones of that age that no run uses.

    Backbones are shared. They all stay while any run, deleted or not, cannot be read: it may use any of them.
    """
    latest = time.time() - days * 86400
    trash.purge(workspace.deleted_run("x").parent, latest)
    # A run that is being prepared writes its backbone before the file that names it.
    if run_store.list_damaged() or any(run.status.state in ("queued", "running") for run in run_store.list_runs()):
        return
    used = _backbones_in_use()
    if used is None:
        return
    for path in workspace.backbone("x").parent.glob("[!.]*"):  # weights, and graphs named <weights>-<graph>
        if path.name.split("-")[0].split(".")[0] not in used and trash.modified(path) <= latest:
            path.unlink(missing_ok=True)
    for path in workspace.backbone("x").parent.glob(".part*"):  # of writers that were killed
        if trash.modified(path) <= latest:
            path.unlink(missing_ok=True)


def _backbones_in_use() -> set[str] | None:
    """Digests of the backbones that runs use, deleted and shipped runs included; None if one of the runs does not tell."""
    digests = set()
    try:
        for root in (workspace.runs(), workspace.deleted_run("x").parent, workspace.pretrained()):
            for run_id in workspace.list_dirs(root):
                description = root / run_id / "trunk.json"
                if description.is_file():
                    digests.add(_digest(description))
                elif (root / run_id / "head.keras").is_file():  # its description is lost
                    return None
    except (OSError, ValueError):
        return None
    return digests


def _digest(description: Path) -> str:
    """The digest in a run's trunk.json.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged.
    """
    document = json.loads(description.read_bytes())
    digest = document.get("digest") if isinstance(document, dict) else None
    if not isinstance(digest, str) or not digest:
        raise ValueError(f"{description} names no backbone.")
    return digest
