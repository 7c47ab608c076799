"""A manifest: which images are in which split, as what, how often and with what weight; frozen, with an id of its content.

    <dataset>/manifests/<id>.parquet    one row an image or copy of one: COLUMNS
    <dataset>/manifests/<id>.json       how it was made, and the counts

The same images, decisions and choices give the same id on every machine; runs record it.

Columns
    id          of the image in its dataset; images of other datasets are called `<dataset>:<id>`
    split       train, val or test
    class       after the decisions
    patient     who is on the image; no patient is in both train and val of a patient split
    sha256      of the file
    data, row   dataset, and row in its index and packed arrays
    copy        0 for an image, 1, 2, … for its repeats in train
    view        0 for the image as it is, else the seed of the changed view (views.py) that this copy shows
    weight      in the loss; 1 unless classes are weighed
    was         class in the source
    decisions   numbers of the decisions that touched the row, joined by ", "
"""

import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr_core import workspace
from cxr_core.data import balancing, datasets, decisions, index
from cxr_core.errors import BadInput, UnknownName, WorkFailed

SPLIT_RULES = {
    "official": "The splits as the source has them; the paper's table is made on these.",
    "patient": "Test as the source has it; train and val pooled and split anew, no patient in both, classes in proportion.",
}
COLUMNS = ("id", "split", "class", "patient", "sha256", "data", "row", "copy", "view", "weight", "was", "decisions")


@dataclass(frozen=True)
class Supplement:
    """So many images of a class, drawn at random from another dataset and added to the training images."""

    data: str
    label: str
    images: int


@dataclass(frozen=True)
class Manifest:
    """What is known of a manifest without reading its rows.

    `counts` are rows per split and class; `images` the same without repeats; `already_there` counts the images that no
    supplement could draw, since the same file is in the dataset itself or in a supplement before it.
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


def build(
    data: str,
    *,
    split: str = "official",
    val_fraction: float = 0.15,
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
        val_fraction: share of the pooled train and val images that goes to val, in (0, 0.5]; only for "patient".
        seed: of the patient split, and of what is drawn at random.
        balance: a key of balancing.STRATEGIES; it changes the training images only.
        supplements: from other datasets, before the split.
        folds: of a cross-validation, 2 to 20; then val is fold number `fold` (from 1) of so many instead of `val_fraction`,
            every image is in val in exactly one of them, and no patient in two; only for "patient". 0: none.

    Raises:
        UnknownName: no such dataset, split rule, balance or class.
        BadInput: a share out of range, too few patients to keep them apart, or too few images to draw from.
    """
    part = _part(split, val_fraction, folds, fold)
    table, already_there = _planned(data, split, part, seed, balance, supplements)
    classes = datasets.get(data).classes
    manifest = Manifest(
        id=_content_id(table),
        data=data,
        split=split,
        val_fraction=(1 / folds if folds else val_fraction) if split == "patient" else 0.0,
        seed=seed if split == "patient" or supplements or balance not in ("none", "class_weights") else 0,
        balance=balance,
        supplements=tuple(supplements),
        classes=classes,
        counts=datasets.counts(table, classes),
        images=datasets.counts(table[table["copy"] == 0], classes),
        excluded=int(decisions.applied(data)["excluded"].sum()),
        relabelled=int((table["was"].astype(str) != table["class"].astype(str)).sum()),
        already_there=already_there,
        folds=folds,
        fold=fold,
    )
    folder = workspace.dataset(data) / "manifests"
    if not _is_whole(manifest):
        workspace.write_bytes(folder / f"{manifest.id}.parquet", table.to_parquet(index=False))
        workspace.write_json(folder / f"{manifest.id}.json", asdict(manifest))
    return manifest


def plan(
    data: str,
    *,
    split: str = "official",
    val_fraction: float = 0.15,
    seed: int = 0,
    balance: str = "none",
    supplements: Sequence[Supplement] = (),
) -> pd.DataFrame:
    """The rows (COLUMNS) that `build` with the same arguments would freeze; nothing is written."""
    return _planned(data, split, _part(split, val_fraction, 0, 0), seed, balance, supplements)[0]


def _part(split: str, val_fraction: float, folds: int, fold: int) -> tuple[float, float]:
    """From which share to which, in the order of their patients, the pooled images go to val."""
    if not folds:
        return 0.0, val_fraction
    if split != "patient":
        raise BadInput(f"Folds are made of the patient split. Received: the {split} split with {folds} folds.")
    if not 2 <= folds <= 20 or not 1 <= fold <= folds:
        raise BadInput(f"There are 2 to 20 folds, and a fold is a number from 1 to that. Received: {fold} of {folds}.")
    return (fold - 1) / folds, fold / folds


def _planned(
    data: str, split: str, part: tuple[float, float], seed: int, balance: str, supplements: Sequence[Supplement]
) -> tuple[pd.DataFrame, int]:
    """The rows, and how many images no supplement could draw because they are there already."""
    if not 0 <= seed < 2**32:
        raise BadInput(f"The seed is a whole number from 0 to {2**32 - 1:,}. Received: {seed}.")
    if split not in SPLIT_RULES:
        raise UnknownName("split rule", split, SPLIT_RULES)
    if balance not in balancing.STRATEGIES:
        raise UnknownName("balance", balance, balancing.STRATEGIES)
    classes = datasets.get(data).classes
    table = _curated(data)
    if table.empty:
        raise BadInput(f"All images of '{data}' are excluded; there is nothing to build from. Undo a decision first.")
    # All of the dataset's files, excluded ones too: what was left out is not to come back, least of all from test.
    known, already_there = set(index.column(data, "sha256")), 0
    for one in supplements:
        drawn, passed_over = _drawn(one, data, classes, seed, known)
        table = pd.concat([table, drawn], ignore_index=True)
        known, already_there = known | set(drawn["sha256"]), already_there + passed_over
    if split == "patient":
        table = _by_patient(table, part, seed)
    table = balancing.balanced(table, balance, seed)
    return table[list(COLUMNS)], already_there


def get(data: str, manifest_id: str) -> Manifest:
    """A manifest that was built before.

    Raises:
        UnknownName: the dataset has none of this id.
        WorkFailed: its file is damaged.
    """
    folder = workspace.dataset(data) / "manifests"
    known = sorted(path.stem for path in folder.glob("*.json"))
    if manifest_id not in known:
        raise UnknownName(f"manifest of '{data}'", manifest_id, known)
    document: dict[str, Any] = workspace.read_json(folder / f"{manifest_id}.json")
    try:
        supplements = tuple(Supplement(**one) for one in document["supplements"])
        return Manifest(**{**document, "classes": tuple(document["classes"]), "supplements": supplements})
    except (TypeError, KeyError) as error:
        raise WorkFailed(f"The description of manifest {manifest_id} is damaged. Build it again.") from error


def every(data: str) -> list[Manifest]:
    """The manifests of a dataset, newest first; damaged ones are left out here and named by `get`."""
    found = []
    paths = (workspace.dataset(data) / "manifests").glob("*.json")
    for path in sorted(paths, key=lambda one: one.stat().st_mtime, reverse=True):
        try:
            found.append(get(data, path.stem))
        except WorkFailed:
            continue
    return found


def rows(manifest: Manifest) -> pd.DataFrame:
    """The rows (COLUMNS) of a manifest.

    Raises:
        WorkFailed: its file is missing or damaged, or a dataset has changed under it.
    """
    path = workspace.dataset(manifest.data) / "manifests" / f"{manifest.id}.parquet"
    try:
        table = pd.read_parquet(path, columns=list(COLUMNS))
    except (OSError, ValueError) as error:
        raise WorkFailed(
            f"Manifest {manifest.id} of '{manifest.data}' is missing or damaged. Build it again."
        ) from error
    for name, part in table.groupby("data", observed=True, sort=False):
        try:
            found = index.column(str(name), "sha256").to_numpy()
        except UnknownName as error:
            raise WorkFailed(f"Manifest {manifest.id} needs dataset '{name}', which is gone. Add it again.") from error
        if part["row"].max() >= len(found) or (found[part["row"]] != part["sha256"].to_numpy()).any():
            raise WorkFailed(f"Dataset '{name}' has changed since manifest {manifest.id} was built. Build it again.")
    return table


def _is_whole(manifest: Manifest) -> bool:
    if not (workspace.dataset(manifest.data) / "manifests" / f"{manifest.id}.json").is_file():
        return False
    try:
        rows(manifest)
    except WorkFailed:
        return False
    return True


def _curated(data: str) -> pd.DataFrame:
    """The rows of a dataset after its decisions; splits and classes as plain strings."""
    table = index.read(data)[["id", "split", "class", "patient", "sha256"]].reset_index(names="row")
    table = table.assign(split=table["split"].astype(str), data=data, copy=0, view=0, weight=1.0)
    table["was"] = table["class"] = table["class"].astype(str)
    decided = decisions.applied(data).reindex(table["id"])
    new = decided["label"].fillna("").to_numpy()
    table["class"] = np.where(new != "", new, table["class"].to_numpy()).astype(str)
    table["decisions"] = decided["decisions"].fillna("").to_numpy()
    excluded = decided["excluded"].to_numpy() == True  # noqa: E712 - images without a decision are NaN here
    return table[~excluded].reset_index(drop=True)


def _drawn(
    supplement: Supplement, data: str, classes: tuple[str, ...], seed: int, known: set[str]
) -> tuple[pd.DataFrame, int]:
    """Its rows, and how many of its class are passed over since their files are `known`."""
    if supplement.data == data:
        raise BadInput(f"A supplement comes from another dataset. Received: '{data}' itself.")
    if supplement.label not in classes:
        raise UnknownName(f"class in {data}", supplement.label, classes)
    table = _curated(supplement.data)
    every = table[table["class"] == supplement.label].sort_values("id")
    pool = every[~every["sha256"].isin(known)].drop_duplicates("sha256")
    passed_over = int(every["sha256"].isin(known).sum())
    if not 0 < supplement.images <= len(pool):
        there = f" {passed_over:,} more are in '{data}' already." if passed_over else ""
        raise BadInput(
            f"'{supplement.data}' has {len(pool):,} {supplement.label} images to draw from.{there} "
            f"Received: {supplement.images:,}."
        )
    rng = np.random.default_rng([seed, zlib.crc32(f"{supplement.data}/{supplement.label}".encode())])
    chosen = pool.iloc[np.sort(rng.permutation(len(pool))[: supplement.images])]
    prefix = supplement.data + ":"
    drawn = chosen.assign(split="train", id=prefix + chosen["id"], patient=prefix + chosen["patient"])
    return drawn, passed_over


def _content_id(table: pd.DataFrame) -> str:
    """12 hexadecimal digits of the SHA-256 over what the rows are, sorted; neither name nor path of the dataset."""
    told = table[["id", "split", "class", "sha256", "copy", "view"]].astype(str)
    told["weight"] = [f"{weight:.6g}" for weight in table["weight"]]
    lines = sorted("\t".join(row) for row in told.itertuples(index=False))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _by_patient(table: pd.DataFrame, part: tuple[float, float], seed: int) -> pd.DataFrame:
    """Train and val anew: in each class, patients in the order of a hash of seed and patient, a `part` of them to val.

    So a patient stays where it is when other images come or go, but for the few at the cut.
    """
    val_fraction = part[1] - part[0]
    if not 0 < val_fraction <= 0.5:
        raise BadInput(f"The validation share is above 0 and at most 0.5. Received: {val_fraction}.")
    pool = table[table["split"] != "test"]
    if pool.empty:
        raise BadInput(
            "All images are in the test split; there are none to train on and to split. Add a training split."
        )
    by_class = pool.groupby(["patient", "class"], observed=True).size().reset_index(name="images")
    # A patient with several classes counts for the most frequent one.
    labels = (
        by_class.sort_values(["images", "class"]).drop_duplicates("patient", keep="last").set_index("patient")["class"]
    )
    patients = pd.DataFrame({"label": labels, "images": by_class.groupby("patient")["images"].sum()})
    patients["order"] = [
        hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).hexdigest() for name in patients.index
    ]
    chosen: set[str] = set()
    for _, own in patients.sort_values(by="order").groupby("label"):
        images = np.concatenate([[0], own["images"].cumsum()])
        first, end = (int(np.abs(images - share * images[-1]).argmin()) for share in part)
        if not 0 < end - first < len(own):
            fewest = int(patients["label"].value_counts().min())
            raise BadInput(
                f"A validation share of {val_fraction:.3g} needs at least {math.ceil(1 / val_fraction)} patients in each class; "
                f"one class has {fewest}. Choose a larger share, or the official split."
            )
        chosen.update(own.index[first:end])
    split = np.where(table["split"] == "test", "test", np.where(table["patient"].isin(chosen), "val", "train"))
    return table.assign(split=split.astype(str))
