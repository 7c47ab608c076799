"""The runs of a workspace, each a folder that says all there is to know of it.

    config.json  status.json  environment.json  history.csv  log.txt
    model.keras                  the whole network, or
    head.keras  trunk.json       the part behind a frozen trunk, and which trunk that is
    predictions/<split>.parquet  metrics.json
    checkpoint/                  where a training that is not finished goes on from
    label.json                   name and note that a person gave it
    stop                         asks the run to stop

A run writes only its own folder. Runs that ship with the project lie in `artifacts/pretrained/`.
"""

import math
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        metrics: splits to figures (see evaluation/metrics.py), empty until predicted; shared, so never change it.
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
        """Whether it is the project's, not the user's: then nothing of it is changed."""
        return self.folder.parent != workspace.runs()

    @property
    def has_model(self) -> bool:
        return any((self.folder / name).is_file() for name in MODELS)

    @property
    def has_predictions(self) -> bool:
        """Whether it has a model and predictions."""
        return bool(self.metrics)


def make_id(config: RunConfig) -> str:
    """A name that sorts by time and says what it is: `custom_cnn-kermany-20261124-041500-3fa`."""
    return f"{config.model}-{config.data[:30]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)[:3]}"


def create(config: RunConfig) -> str:
    """Make the folder of a queued run and return its id."""
    while True:
        run_id = make_id(config)
        place = workspace.run(run_id)
        try:
            place.mkdir(parents=True)
            break
        except FileExistsError:  # another run of this second has drawn the same suffix
            continue
        except OSError as error:
            raise WorkFailed(f"Could not make {place}: {error.strerror}.") from error
    workspace.write_json(place / "config.json", settings.to_document(config))
    now = time.time()
    states.write(place, Status(created=now, turn=now, epochs=config.epochs))
    return run_id


def list_ids() -> list[str]:
    """All runs with a status, the user's and the shipped ones, newest first by name's time stamp."""
    found = {name for name, place in _places() if os.path.isfile(f"{place}/status.json")}  # noqa: PTH113
    return sorted(sorted(found), key=lambda name: name[-19:], reverse=True)


def _places() -> list[tuple[str, str]]:
    """Name and path of all folders that may be runs; a shipped one comes before the user's, who may have one of its name."""
    return [
        (name, f"{root}/{name}")
        for root in (workspace.pretrained(), workspace.runs())
        for name in workspace.list_dirs(root)
    ]


def folder(run_id: str) -> Path:
    """Where a run lives.

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


def _at(run_id: str, place: str) -> Run:
    fingerprint = workspace.fingerprint(*(f"{place}/{name}" for name in _FILES))
    try:
        kept = _kept.get(place)
        if kept is None or kept[0] != fingerprint:
            kept = (fingerprint, _read(run_id, Path(place)))
            _kept[place] = kept
    except FileNotFoundError as error:
        raise WorkFailed(f"Run '{run_id}' lacks {error.filename}. Delete it with: runs delete {run_id}") from error
    status = states.with_liveness(kept[1].status)
    return kept[1] if status is kept[1].status else replace(kept[1], status=status)


_FILES = ("config.json", "status.json", "metrics.json", "label.json")
_kept: dict[
    str, tuple[workspace.Fingerprint, Run]
] = {}  # what was read and is still the same on disk: a page looks at a thousand runs


def _read(run_id: str, place: Path) -> Run:
    config = settings.from_document(workspace.read_json(place / "config.json"))
    metrics = workspace.read_json(place / "metrics.json") if (place / "metrics.json").is_file() else {}
    label = workspace.read_json(place / "label.json") if (place / "label.json").is_file() else {}
    return Run(
        run_id, config, states.read_as_written(place), metrics, str(label.get("name", "")), str(label.get("note", ""))
    )


def describe(run_id: str, *, name: str | None = None, note: str | None = None) -> None:
    """Give a run a name, at most 80 characters, or a note; None leaves it as it is, an empty one takes it away.

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
    """All runs that can be read, newest first; the others are named by `damaged`."""
    found = [one for one in _tried().values() if isinstance(one, Run)]
    return sorted(found, key=lambda run: run.status.created, reverse=True)


def list_damaged() -> dict[str, str]:
    """Runs that cannot be read, with the sentence that says why."""
    return {run_id: str(one) for run_id, one in _tried().items() if isinstance(one, WorkFailed | BadInput)}


def _tried() -> dict[str, Run | CxrError]:
    found: dict[str, Run | CxrError] = {}
    for run_id, place in _places():
        try:
            found[run_id] = _at(run_id, place)
        except CxrError as error:
            if os.path.isfile(f"{place}/status.json"):  # noqa: PTH113 - else it is no run, or is being made or deleted
                found[run_id] = error
    return found


def history(run_id: str) -> pd.DataFrame:
    """One row (HISTORY) per whole epoch; empty before the first.

    Raises:
        UnknownName: there is no such run.
        WorkFailed: the file is damaged.
    """
    return history_of_folder(folder(run_id))


def history_of_folder(place: Path) -> pd.DataFrame:
    """The `history` of the run in the folder `place`."""
    path = place / "history.csv"
    if not path.is_file():
        return pd.DataFrame(columns=list(HISTORY), dtype=float)
    try:
        return pd.read_csv(path).astype({"epoch": int})
    except (ValueError, KeyError) as error:
        raise WorkFailed(f"{path} is damaged: it is no table of epochs.") from error


def epoch_score(epoch: Mapping[Any, Any], by: str) -> tuple[float, ...]:
    """How good an epoch is, to be compared: the largest is kept.

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
    """The epoch of a `history` whose weights are kept, `by` as in `rank`; None before the first."""
    if not {"val_accuracy", "val_loss"} <= set(table):
        return None
    rows = [row for row in table.to_dict("records") if math.isfinite(row["loss"]) and pd.notna(row["val_loss"])]
    return int(max(rows, key=lambda row: epoch_score(row, by))["epoch"]) if rows else None


def write_history(place: Path, rows: list[dict[str, float]]) -> None:
    table = pd.DataFrame(rows, columns=list(HISTORY))
    workspace.write_bytes(place / "history.csv", table.to_csv(index=False).encode())


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
    place = folder(run_id) / "predictions"
    known = [path.stem for path in sorted(place.glob("*.parquet"))]
    if split not in known:
        raise UnknownName(f"split with predictions in run {run_id}", split, known)
    return place / f"{split}.parquet"
