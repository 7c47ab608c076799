"""Make a run one of those that ship with the project: what a reader of its metrics and a live prediction need, nothing else."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

from cxr_core import checksums, workspace
from cxr_core.errors import AlreadyExists, BadInput
from cxr_core.runs import run_store
from cxr_core.runs import status as states

_FILES = (
    "config.json", "environment.json", "history.csv", "metrics.json", "ensemble.json", "decision_rule.json",
    "temperature.json", "operating_point.json", "trunk.json", "input_check.npz", *run_store.MODELS,
)  # fmt: skip
_FOLDERS = ("predictions", "export")
_SEALED = {  # files that a model answers by, and what makes them anew
    "export/about.json": "export", "export/head.npz": "export", "input_check.npz": "export", "decision_rule.json": "calibrate",
    "ensemble.json": "ensemble",
}  # fmt: skip


def add_to_bundle(run_id: str, name: str) -> Path:
    """Copy a finished run to `workspace.pretrained()`, without its log, its checkpoint and the process that trained it.

    Args:
        name: name to show.

    Raises:
        UnknownName: there is no such run.
        BadInput: it is not finished, has no predictions, or a file that it answers by has no checksum.
        AlreadyExists: it ships already.
        WorkFailed: the disk is full or cannot be written.
    """
    run = run_store.get(run_id)
    if run.status.state != "finished" or not run.has_predictions:
        raise BadInput(f"Only a finished run with predictions can ship. Run '{run_id}' is {run.status.state}.")
    for file, maker in _SEALED.items():
        path = run.folder / file
        if path.is_file() and not checksums.is_sealed(path):
            raise BadInput(
                f"What ships has checksums, and {path} has none: it is of an earlier version. Make it again with `{maker}`, then "
                "ship the run."
            )
    target = workspace.pretrained() / run_id
    if target.exists():
        raise AlreadyExists(f"Run '{run_id}' ships already. Delete {target} to ship it anew.")
    with workspace.replacing(target, only_writer=True) as part:
        shutil.rmtree(part, ignore_errors=True)  # of a copy that was killed
        part.mkdir()
        for name_ in _FILES:
            if (run.folder / name_).is_file():
                shutil.copyfile(run.folder / name_, part / name_)
        for name_ in _FOLDERS:
            if (run.folder / name_).is_dir():
                shutil.copytree(run.folder / name_, part / name_, ignore=shutil.ignore_patterns(".*"))
        _compress(part / "export")
        workspace.write_json(part / "label.json", {"name": name, "note": run.note})
        states.write(part, replace(run.status, owner=None))
    return target


def _compress(export: Path) -> None:
    """Give an exported network the half of its size that kernels in half precision need; a clone carries it for ever."""
    plain = export / "part.tflite"
    if not plain.is_file():
        return
    content = gzip.compress(plain.read_bytes(), mtime=0)
    target = plain.with_name(f"{plain.name}.gz")
    target.write_bytes(content)
    plain.unlink()
    about = checksums.unseal(workspace.read_json(export / "about.json"))
    workspace.write_json(
        export / "about.json", checksums.seal({**about, "files": {target.name: checksums.of_bytes(content)}})
    )
