"""The rows of a manifest before they are frozen: decisions applied, supplements drawn, splits and balance made.

Whatever is drawn at random is drawn by the content of the images, so neither the names of the datasets nor the places where
they lie have a say.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_core.data import balancing, datasets, decisions, index
from cxr_core.data.seeds import check_seed
from cxr_core.errors import BadInput, UnknownName

SPLIT_RULES = {
    "official": "The splits as the source has them; the paper's table is made on these.",
    "patient": "Test as the source has it; train and val pooled and split anew, no patient in both, classes in proportion.",
}
USUAL_SHARE, LEAST_SHARE, MOST_SHARE = 0.15, 0.001, 0.5  # of the pooled images, for val


@dataclass(frozen=True)
class Supplement:
    """So many images of a class, drawn at random from another dataset and added to the training images."""

    data: str
    label: str
    images: int


@dataclass(frozen=True)
class Plan:
    """Contents of a manifest to be.

    Attributes:
        rows: the columns of a manifest (manifest.py), and `path`, the id within the image's own dataset.
        already_there: how many images no supplement could draw, since their files are in the dataset itself.
    """

    rows: pd.DataFrame
    already_there: int


def fold_range(split: str, folds: int, fold: int) -> tuple[float, float]:
    """From which share to which, in the order of their patients, the pooled images are fold number `fold` of `folds`.

    Raises:
        BadInput: there is no such fold, or it is not the patient split.
    """
    if split != "patient":
        raise BadInput(f"Folds are made of the patient split. Received: the {split} split with {folds} folds.")
    if not 2 <= folds <= 20 or not 1 <= fold <= folds:
        raise BadInput(f"There are 2 to 20 folds, and a fold is a number from 1 to that. Received: {fold} of {folds}.")
    return (fold - 1) / folds, fold / folds


def plan_rows(
    data: str, split: str, part: tuple[float, float], seed: int, balance: str, supplements: Sequence[Supplement]
) -> Plan:
    """See `manifest.build`, whose arguments these are; `part` is what goes to val, from which share to which."""
    check_seed(seed)
    if split not in SPLIT_RULES:
        raise UnknownName("split rule", split, SPLIT_RULES)
    if balance not in balancing.STRATEGIES:
        raise UnknownName("balance", balance, balancing.STRATEGIES)
    classes = datasets.get(data).classes
    table = _curated(data)
    if table.empty:
        raise BadInput(f"All images of '{data}' are excluded; there is nothing to build from. Undo a decision first.")
    # All of the dataset's files, excluded ones too: what was left out is not to come back, least of all from test.
    in_data, drawn_before, passed_over = set(index.column(data, "sha256")), set[str](), set[str]()
    for supplement in supplements:
        chosen, in_dataset = _drawn(supplement, data, classes, seed, in_data, drawn_before)
        table = pd.concat([table, chosen], ignore_index=True)
        drawn_before |= set(chosen["sha256"])
        passed_over |= in_dataset
    if split == "patient":
        table = _by_patient(table, part, seed)
    return Plan(balancing.balance(table, balance, seed), len(passed_over))


def _curated(data: str) -> pd.DataFrame:
    """The rows of a dataset after its decisions; splits and classes as plain strings."""
    table = index.read(data)[["id", "split", "class", "patient", "sha256"]].reset_index(names="row")
    if (dataset := datasets.get(data)).additions:  # in the order of a dataset that was added at once
        for column, order in (("split", index.SPLITS), ("class", dataset.classes)):
            table[column] = table[column].cat.set_categories(order, ordered=True)
        table = table.sort_values(["split", "class", "id"], ignore_index=True)
    table = table.assign(split=table["split"].astype(str), data=data, copy=0, view=0, weight=1.0)
    table["path"], table["person"] = table["id"], table["patient"]
    table["was"] = table["class"] = table["class"].astype(str)
    decided = decisions.resolved(data).reindex(table["id"])
    new = decided["label"].fillna("").to_numpy()
    table["class"] = np.where(new != "", new, table["class"].to_numpy()).astype(str)
    table["decisions"] = decided["decisions"].fillna("").to_numpy()
    excluded = decided["excluded"].to_numpy() == True  # noqa: E712 - images without a decision are NaN here
    return table[~excluded].reset_index(drop=True)


def _drawn(
    supplement: Supplement, data: str, classes: tuple[str, ...], seed: int, in_data: set[str], drawn_before: set[str]
) -> tuple[pd.DataFrame, set[str]]:
    """Its rows, and what of its class is passed over since the file is among the dataset's `own`."""
    if supplement.data == data:
        raise BadInput(f"A supplement comes from another dataset. Received: '{data}' itself.")
    if supplement.label not in classes:
        raise UnknownName(f"class in {data}", supplement.label, classes)
    table = _curated(supplement.data)
    every = table[table["class"] == supplement.label].sort_values("id")
    in_dataset, is_drawn = every["sha256"].isin(in_data), every["sha256"].isin(drawn_before)
    pool = every[~in_dataset & ~is_drawn].drop_duplicates("sha256")
    if not 0 < supplement.images <= len(pool):
        raise BadInput(
            f"'{supplement.data}' has {len(pool):,} {supplement.label} images to draw from."
            + (f" {in_dataset.sum():,} more are in '{data}' already." if in_dataset.any() else "")
            + (
                f" {(is_drawn & ~in_dataset).sum():,} more are drawn by the supplements before."
                if is_drawn.any()
                else ""
            )
            + f" Received: {supplement.images:,}."
        )
    lots = pool["sha256"].map(lambda sha256: _lot(seed, sha256))
    chosen = pool.loc[lots.sort_values().index[: supplement.images]].sort_values("id")
    prefix = supplement.data + ":"
    named = chosen.assign(split="train", id=prefix + chosen["id"], patient=prefix + chosen["patient"])
    return named, {prefix + image_id for image_id in every.loc[in_dataset, "id"]}


def _lot(seed: int, what: str) -> str:
    """A place in an order that is random, and the same wherever it is drawn."""
    return hashlib.blake2b(f"{seed} {what}".encode(), digest_size=8).hexdigest()


def _by_patient(table: pd.DataFrame, part: tuple[float, float], seed: int) -> pd.DataFrame:
    """Train and val anew: in each class, patients in the order of a hash of seed and patient, a `part` of them to val.

    So a patient stays where it is when other images come or go, but for the few at the cut.
    """
    val_fraction = round(part[1] - part[0], 6)
    if not LEAST_SHARE <= val_fraction <= MOST_SHARE:
        raise BadInput(f"The validation share is from {LEAST_SHARE} to {MOST_SHARE}. Received: {val_fraction}.")
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
    about = pool.groupby("patient").agg(images=("id", "size"), person=("person", "first"), file=("sha256", "min"))
    patients = about.assign(label=labels, order=[_lot(seed, name) for name in about["person"]])
    chosen: set[str] = set()
    for _, of_label in patients.sort_values(by=["order", "file"]).groupby("label"):
        images = np.concatenate([[0], of_label["images"].cumsum()])
        first, end = (int(np.abs(images - share * images[-1]).argmin()) for share in part)
        if not 0 < end - first < len(of_label):
            fewest = int(patients["label"].value_counts().min())
            raise BadInput(
                f"A validation share of {val_fraction:.3g} needs at least {math.ceil(1 / val_fraction)} patients in each class; "
                f"one class has {fewest}. Choose a larger share, or the official split."
            )
        chosen.update(of_label.index[first:end])
    split = np.where(table["split"] == "test", "test", np.where(table["patient"].isin(chosen), "val", "train"))
    return table.assign(split=split.astype(str))
