"""The runs of a workspace, each a folder that says all there is to know of it.

    config.json  status.json  environment.json  history.csv  log.txt
    model.keras                  the whole network, or
    head.keras  trunk.json       the part behind a frozen backbone, and which backbone that is
    predictions/<split>.parquet  metrics.json
    checkpoint/                  where a training that is not finished resumes
    label.json                   name and note that a person gave it
    stop                         asks the run to stop

A run writes only its own folder. Runs that ship with the project lie in `artifacts/pretrained/`.
"""

import hashlib
import math
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_core import workspace
from cxr_core.errors import BadInput, CxrError, UnknownName, WorkFailed
from cxr_core.runs import config as settings
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig
from cxr_core.runs.status import Status

MODELS = ("model.keras", "head.keras")
HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


@dataclass(frozen=True)
class Run:
    """One run as it stands on disk.

    Attributes:
        metrics: splits to metrics (see evaluation/metrics.py), empty until predicted; shared, so never change it.
        name, note: what a person calls it and says of it, empty if nothing was said.
    """

    id: str
    config: RunConfig
    status: Status
    metrics: dict[str, Any]
    name: str = ""
    note: str = ""

    @property
    def folder(self) -> Path:
        return folder(self.id)

    @property
    def is_bundled(self) -> bool:
        """True if it ships with the project: then nothing of it is changed."""
        return self.folder.parent != workspace.runs()

    @property
    def has_model(self) -> bool:
        return any((self.folder / name).is_file() for name in MODELS)

    @property
    def validation_accuracy(self) -> float:
        """Share of its validation images that it gets right, by highest probability: what the best run is chosen by."""
        return float(self.metrics.get("val", {}).get("accuracy") or 0.0)

    @property
    def has_predictions(self) -> bool:
        """True if it has a model and predictions."""
        return bool(self.metrics)


def make_id(config: RunConfig) -> str:
    """A name that sorts by time and says what it is: `custom_cnn-kermany-20261124-041500-3fa`."""
    return f"{config.model}-{config.data[:30]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)[:3]}"


def create(config: RunConfig) -> str:
    """Make the folder of a queued run and return its id."""
    while True:
        run_id = make_id(config)
        path = workspace.run(run_id)
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:  # another run of this second has drawn the same suffix
            continue
        except OSError as error:
            raise WorkFailed(f"Could not make {path}: {error.strerror}.") from error
    workspace.write_json(path / "config.json", settings.to_document(config))
    now = time.time()
    states.write(path, Status(created=now, turn=now, epochs=config.epochs))
    return run_id


def list_ids() -> list[str]:
    """All runs with a status, the user's and the shipped ones, newest first by name's time stamp."""
    ids = {name for name, path in _run_folders() if os.path.isfile(f"{path}/status.json")}  # noqa: PTH113
    return sorted(sorted(ids), key=lambda name: name[-19:], reverse=True)


def _run_folders() -> list[tuple[str, str]]:
    """Name and path of all folders that may be runs; a shipped one comes before the user's, who may have one of its name."""
    return [
        (name, f"{root}/{name}")
        for root in (workspace.pretrained(), workspace.runs())
        for name in workspace.list_dirs(root)
    ]


def folder(run_id: str) -> Path:
    """The folder of a run.

    Raises:
        UnknownName: there is no such run; lists the known ones.
    """
    for root in (workspace.runs(), workspace.pretrained()):
        if (root / workspace.validate_name(run_id) / "status.json").is_file():
            return root / run_id
    raise UnknownName("run", run_id, list_ids())


def get(run_id: str) -> Run:
    """One run.

    Raises:
        UnknownName: there is none.
        WorkFailed: a file in its folder is missing or damaged.
    """
    return _at(run_id, str(folder(run_id)))


def _at(run_id: str, path: str) -> Run:
    fingerprint = workspace.fingerprint(*(f"{path}/{name}" for name in _FILES))
    try:
        cached = _cache.get(path)
        if cached is None or cached[0] != fingerprint:
            cached = (fingerprint, _read(run_id, Path(path)))
            _cache[path] = cached
    except FileNotFoundError as error:
        raise WorkFailed(f"Run '{run_id}' lacks {error.filename}. Delete it with: runs delete {run_id}") from error
    status = states.with_liveness(cached[1].status)
    return cached[1] if status is cached[1].status else replace(cached[1], status=status)


_FILES = ("config.json", "status.json", "metrics.json", "label.json")
_cache: dict[str, tuple[workspace.Fingerprint, Run]] = {}  # runs as last read, by path: a page looks at a thousand


def _read(run_id: str, path: Path) -> Run:
    try:
        config = settings.from_document(workspace.read_json(path / "config.json"))
    except BadInput as error:
        raise BadInput(f"{path / 'config.json'} is damaged. {error} Restore it from a backup.") from error
    metrics = {split: part for split, part in _read_object(path / "metrics.json").items() if isinstance(part, dict)}
    if not all(workspace.is_number(part.get(name)) for part in metrics.values() for name in ("accuracy", "macro_f1")):
        raise WorkFailed(
            f"{path / 'metrics.json'} is damaged: it has a split without accuracy or macro F1. Restore it from a backup."
        )
    try:
        label = _read_object(path / "label.json")
        name, note = (str(label.get(key) or "") for key in ("name", "note"))
    except WorkFailed:  # no reason to hide the run
        name, note = "", "Its name and note cannot be read: label.json is damaged."
    return Run(run_id, config, states.read_as_written(path), metrics, name, note)


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty without the file."""
    document = workspace.read_json(path) if path.is_file() else {}
    if not isinstance(document, dict):
        raise WorkFailed(
            f"{path} is damaged: its content has another shape than it is written in. Restore it from a backup."
        )
    return document


def model_fingerprint(run_folder: Path) -> str:
    """Tells one model of a run from a later one, by the directory at the end of its file, which has a checksum of each part.

    Returns:
        16 hexadecimal digits; empty if there is no model.
    """
    for name in MODELS:
        path = run_folder / name
        if path.is_file():
            return _end_digest(path, workspace.fingerprint(path))
    return ""


@lru_cache(maxsize=256)
def _end_digest(path: Path, fingerprint: workspace.Fingerprint) -> str:  # noqa: ARG001 - part of the key
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 2**16))
            return hashlib.sha256(file.read()).hexdigest()[:16]
    except OSError as error:
        raise WorkFailed(f"{path} could not be read ({error.strerror or error}).") from error


def describe(run_id: str, *, name: str | None = None, note: str | None = None) -> None:
    """Give a run a name, at most 80 characters, or a note; None leaves it as it is, an empty one removes it.

    Raises:
        UnknownName: there is no such run.
        BadInput: the name is too long, or the run ships with the project.
    """
    run = get(run_id)
    if run.is_bundled:
        raise BadInput(f"Run '{run_id}' ships with the project; its name and note stay as they are.")
    name, note = (old if new is None else " ".join(new.split()) for old, new in ((run.name, name), (run.note, note)))
    if len(name) > 80:
        raise BadInput(f"A name has at most 80 characters. Received: {len(name)}.")
    workspace.write_json(run.folder / "label.json", {"name": name, "note": note})


def list_runs() -> list[Run]:
    """All runs that can be read, newest first; the others are named by `list_damaged`."""
    readable = [run for run in _read_all().values() if isinstance(run, Run)]
    return sorted(readable, key=lambda run: run.status.created, reverse=True)


def list_damaged() -> dict[str, str]:
    """Runs that cannot be read, with the sentence that says why."""
    return {run_id: str(error) for run_id, error in _read_all().items() if isinstance(error, WorkFailed | BadInput)}


def _read_all() -> dict[str, Run | CxrError]:
    outcomes: dict[str, Run | CxrError] = {}
    for run_id, path in _run_folders():
        try:
            outcomes[run_id] = _at(run_id, path)
        except CxrError as error:
            if os.path.isfile(f"{path}/status.json"):  # noqa: PTH113 - else it is no run, or is being made or deleted
                outcomes[run_id] = error
    return outcomes


def history(run_id: str) -> pd.DataFrame:
    """One row (HISTORY) per whole epoch; empty before the first.

    Raises:
        UnknownName: there is no such run.
        WorkFailed: the file is damaged.
    """
    return history_of_folder(folder(run_id))


def history_of_folder(run_folder: Path) -> pd.DataFrame:
    """The `history` of the run in a folder."""
    path = run_folder / "history.csv"
    if not path.is_file():
        return pd.DataFrame(columns=list(HISTORY), dtype=float)
    try:
        return pd.read_csv(path).astype({"epoch": int})
    except (ValueError, KeyError) as error:
        raise WorkFailed(f"{path} is damaged: it is no table of epochs.") from error


def epoch_score(epoch: Mapping[Any, Any], by: str) -> tuple[float, ...]:
    """Score of an epoch, to be compared: the weights of the epoch with the largest are saved.

    Args:
        epoch: a row of the history.
        by: of `config.KEEPS`. Of epochs with the same validation accuracy the one with the smaller loss is the better:
            sixteen validation images, as the paper has, give many ties.
    """
    if by == "last":
        return (epoch["epoch"],)
    if by == "val_loss":
        return (-epoch["val_loss"],)
    return (round(epoch["val_accuracy"], 6), -epoch["val_loss"])


def best_epoch(table: pd.DataFrame, by: str) -> int | None:
    """The epoch of a `history` whose weights are saved, `by` as in `epoch_score`; None before the first."""
    if not {"val_accuracy", "val_loss"} <= set(table):
        return None
    rows = [row for row in table.to_dict("records") if math.isfinite(row["loss"]) and pd.notna(row["val_loss"])]
    return int(max(rows, key=lambda row: epoch_score(row, by))["epoch"]) if rows else None


def write_history(run_folder: Path, rows: list[dict[str, float]]) -> None:
    table = pd.DataFrame(rows, columns=list(HISTORY))
    workspace.write_bytes(run_folder / "history.csv", table.to_csv(index=False).encode())


_CHATTER = re.compile(r"I\d{4} \d\d:|I0000 |WARNING: All log messages before absl|To enable the following|.*\bcuInit\b")


def log(run_id: str, *, last: int = 40) -> str:
    """The last lines of what the run's process printed, without what TensorFlow says of drivers that are not there."""
    path = folder(run_id) / "log.txt"
    if not path.is_file():
        return ""
    with path.open("rb") as opened:
        opened.seek(max(0, path.stat().st_size - 200 * last))
        lines = opened.read().decode(errors="replace").splitlines()
    return "\n".join([line for line in lines if not _CHATTER.match(line)][-last:])


def predictions_path(run_id: str, split: str) -> Path:
    """The predictions table of one split.

    Raises:
        UnknownName: no such run, or the run has no predictions for this split; lists those it has.
    """
    parent = folder(run_id) / "predictions"
    splits = [path.stem for path in sorted(parent.glob("*.parquet"))]
    if split not in splits:
        raise UnknownName(f"split with predictions in run {run_id}", split, splits)
    return parent / f"{split}.parquet"
