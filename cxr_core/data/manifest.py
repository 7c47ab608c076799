"""A manifest: which images are in which split, as what, how often and with what weight; frozen, with an id of its content.

    <dataset>/manifests/<id>.parquet    one row an image or copy of one: COLUMNS
    <dataset>/manifests/<id>.json       how it was made, of what, by which decisions, and the counts

The same images, decisions and choices give the same id on every machine, whatever the datasets are called; runs record it.

Columns
    id          of the image in its dataset; images of other datasets are called `<dataset>:<id>`
    split       train, val or test
    class       after the decisions
    patient     who is on the image; no patient is in both train and val of a patient split
    sha256      of the file
    data, row   dataset, and row in its index and packed arrays
    copy        0 for an image, 1, 2, … for its repeats in train
    view        0 for the image as it is, else the seed of the changed view (augment.py) that this copy shows
    weight      in the loss; 1 unless classes are weighed
    was         class in the source
    decisions   numbers of the decisions that touched the row, joined by ", "
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_core import __version__, typed_json, workspace
from cxr_core.data import balancing, datasets, decisions, index, manifest_rows
from cxr_core.data.manifest_rows import (
    LEAST_SHARE,
    MOST_SHARE,
    SPLIT_RULES,
    USUAL_SHARE,
    Supplement,
    plan_rows,
)
from cxr_core.data.seeds import MAX_SEED
from cxr_core.errors import CxrError, DamagedFile, UnknownName, WorkFailed, stop_if_shortage

__all__ = [
    "COLUMNS",
    "LEAST_SHARE",
    "MAX_SEED",
    "MOST_SHARE",
    "SPLIT_RULES",
    "USUAL_SHARE",
    "Manifest",
    "Supplement",
    "build",
    "files",
    "get",
    "list_manifests",
    "plan",
    "rows",
]  # fmt: skip

COLUMNS = ("id", "split", "class", "patient", "sha256", "data", "row", "copy", "view", "weight", "was", "decisions")


@dataclass(frozen=True)
class Manifest:
    """Description of a manifest, without its rows.

    Attributes:
        counts: rows per split and class.
        images: the same without repeats.
        already_there: images that no supplement could draw, since the same file is in the dataset itself.
        provenance: for people, and no part of the id: `built` (UTC), `software`, `datasets` (origin, citation and time of
            each dataset it draws on) and `decisions` (those in force there). Empty in manifests older than this field.
    """

    id: str
    data: str
    split: str
    val_fraction: float
    seed: int
    balance: str
    supplements: tuple[Supplement, ...]
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    images: dict[str, dict[str, int]]
    excluded: int
    relabelled: int
    already_there: int = 0
    folds: int = 0
    fold: int = 0
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError if the split rule or the balance is none of this version."""
        if self.split not in SPLIT_RULES or self.balance not in balancing.STRATEGIES:
            raise ValueError("'split' or 'balance' is none that this version knows")


def build(
    data: str,
    *,
    split: str = "official",
    val_fraction: float = USUAL_SHARE,
    seed: int = 0,
    balance: str = "none",
    supplements: Sequence[Supplement] = (),
    folds: int = 0,
    fold: int = 0,
) -> Manifest:
    """Freeze a dataset: its decisions in force, its splits, its balance. Building the same again gives the same id.

    Args:
        data: name of the dataset.
        split: a key of SPLIT_RULES.
        val_fraction: share of the pooled train and val images that goes to val, LEAST_SHARE to MOST_SHARE; only for "patient".
        seed: of the patient split, and of what is drawn at random.
        balance: a key of balancing.STRATEGIES; it changes the training images only.
        supplements: from other datasets, before the split.
        folds: of a cross-validation, 2 to 20; then val is fold number `fold` (from 1) of so many instead of `val_fraction`,
            every image is in val in exactly one of them, and no patient in two; only for "patient". 0: none.

    Raises:
        UnknownName: no such dataset, split rule, balance or class.
        BadInput: a share out of range, too few patients to keep them apart, or too few images to draw from.
    """
    part = manifest_rows.fold_range(split, folds, fold) if folds else (0.0, val_fraction)
    plan = plan_rows(data, split, part, seed, balance, supplements)
    table, classes = plan.rows[list(COLUMNS)], datasets.get(data).classes
    manifest = Manifest(
        id=_content_id(plan.rows),
        data=data,
        split=split,
        val_fraction=part[1] - part[0] if split == "patient" else 0.0,
        seed=seed if split == "patient" or supplements or balance not in ("none", "class_weights") else 0,
        balance=balance,
        supplements=tuple(supplements),
        classes=classes,
        counts=index.counts(table, classes),
        images=index.counts(table[table["copy"] == 0], classes),
        excluded=int(decisions.resolved(data)["excluded"].sum()),
        relabelled=int((table["was"].astype(str) != table["class"].astype(str)).sum()),
        already_there=plan.already_there,
        folds=folds,
        fold=fold,
        provenance=_provenance(data, supplements),
    )
    existing = _known(manifest, table)
    if existing is not None:
        return existing
    rows_file, description = files(manifest)
    workspace.write_bytes(rows_file, table.to_parquet(index=False))
    workspace.write_json(description, asdict(manifest))
    return manifest


def plan(
    data: str,
    *,
    split: str = "official",
    val_fraction: float = USUAL_SHARE,
    seed: int = 0,
    balance: str = "none",
    supplements: Sequence[Supplement] = (),
) -> pd.DataFrame:
    """The rows (COLUMNS) that `build` with the same arguments would freeze; nothing is written."""
    return plan_rows(data, split, (0.0, val_fraction), seed, balance, supplements).rows[list(COLUMNS)]


def files(manifest: Manifest) -> tuple[Path, Path]:
    """Paths of its rows (Parquet) and its description (JSON)."""
    folder = workspace.dataset(manifest.data) / "manifests"
    return folder / f"{manifest.id}.parquet", folder / f"{manifest.id}.json"


def get(data: str, manifest_id: str) -> Manifest:
    """A manifest that was built before.

    Raises:
        UnknownName: the dataset has none of this id.
        WorkFailed: its file is damaged.
    """
    folder = workspace.dataset(data) / "manifests"
    ids = sorted(path.stem for path in folder.glob("*.json"))
    if manifest_id not in ids:
        raise UnknownName(f"manifest of '{data}'", manifest_id, ids)
    try:  # `data` is what the folder is called now
        return typed_json.read(folder / f"{manifest_id}.json", Manifest, id=manifest_id, data=data)
    except (FileNotFoundError, DamagedFile) as error:
        raise DamagedFile(f"The description of manifest {manifest_id} is damaged. Build it again.") from error


def list_manifests(data: str) -> list[Manifest]:
    """The manifests of a dataset, newest first; damaged ones are left out here and named by `get`."""
    manifests = []
    paths = (workspace.dataset(data) / "manifests").glob("*.json")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            manifests.append(get(data, path.stem))
        except CxrError:
            continue
    return manifests


def rows(manifest: Manifest) -> pd.DataFrame:
    """The rows (COLUMNS) of a manifest.

    Raises:
        WorkFailed: its file is missing or damaged, or a dataset has changed under it.
    """
    try:
        table = pd.read_parquet(files(manifest)[0], columns=list(COLUMNS))
    except (OSError, ValueError) as error:
        stop_if_shortage(error, f"Manifest {manifest.id} of '{manifest.data}'")
        raise WorkFailed(
            f"Manifest {manifest.id} of '{manifest.data}' is missing or damaged. Build it again."
        ) from error
    # Rows of the dataset itself carry no prefix; they name it as it was called when the manifest was built.
    for name, part in table.groupby("data", observed=True, sort=False):
        if not str(part["id"].iloc[0]).startswith(f"{name}:"):
            table.loc[part.index, "data"] = manifest.data
    for name, part in table.groupby("data", observed=True, sort=False):
        try:
            hashes = index.column(str(name), "sha256").to_numpy()
        except UnknownName as error:
            raise WorkFailed(f"Manifest {manifest.id} needs dataset '{name}', which is gone. Add it again.") from error
        if part["row"].max() >= len(hashes) or (hashes[part["row"]] != part["sha256"].to_numpy()).any():
            raise WorkFailed(f"Dataset '{name}' has changed since manifest {manifest.id} was built. Build it again.")
    return table


def _known(manifest: Manifest, table: pd.DataFrame) -> Manifest | None:
    """The one on disk, if it is whole and tells the same of the same rows; only when it was built may differ."""
    try:
        existing = get(manifest.data, manifest.id)
        there = rows(existing)
    except (UnknownName, WorkFailed):
        return None
    same = _lasting(existing) == _lasting(manifest) and all(
        there[column].tolist() == table[column].tolist() for column in ("id", "data", "row", "decisions")
    )
    return existing if same else None


def _lasting(manifest: Manifest) -> dict[str, Any]:
    about = {key: value for key, value in manifest.provenance.items() if key not in ("built", "software")}
    return {**asdict(manifest), "provenance": about}


def _provenance(data: str, supplements: Sequence[Supplement]) -> dict[str, Any]:
    names = list(dict.fromkeys([data, *(supplement.data for supplement in supplements)]))
    of = {name: datasets.get(name) for name in names}
    return {
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": f"cxr_core {__version__}",
        "datasets": {
            name: {
                "origin": dataset.origin,
                "citation": dataset.citation,
                "added": dataset.created,
                "images": dataset.images,
            }
            for name, dataset in of.items()
        },
        "decisions": [
            {"data": name, **asdict(decision), "images": list(decision.images)}
            for name in names
            for decision in decisions.in_force(name)
        ],
    }


def _content_id(rows: pd.DataFrame) -> str:
    """12 hexadecimal digits of the SHA-256 over what the rows are, sorted; neither name nor place of any dataset."""
    described = rows[["path", "split", "class", "sha256", "copy", "view"]].astype(str)
    described["weight"] = [f"{weight:.6g}" for weight in rows["weight"]]
    lines = sorted("\t".join(row) for row in described.itertuples(index=False))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
