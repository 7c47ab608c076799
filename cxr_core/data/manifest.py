"""A manifest: which images are in which split, frozen, with an id made of the content.

    <dataset>/manifests/<id>.parquet    one row an image: id, split, class, patient, sha256, row (in index and packed arrays)
    <dataset>/manifests/<id>.json       how it was made, and the counts

The same images, classes and splits give the same id on every machine; runs record it.
"""

import hashlib
import math
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from cxr_core import workspace
from cxr_core.data import datasets, index
from cxr_core.errors import BadInput, UnknownName, WorkFailed

SPLIT_RULES = {
    "official": "The splits as the source has them; the paper's table is made on these.",
    "patient": "Test as the source has it; train and val pooled and split anew, no patient in both, classes in proportion.",
}
_MOST_FOLDS = 20  # shares are met in steps of a twentieth, or as closely as the number of patients allows
COLUMNS = ("id", "split", "class", "patient", "sha256", "row")


@dataclass(frozen=True)
class Manifest:
    """What is known of a manifest without reading its rows."""

    id: str
    data: str
    split: str
    val_fraction: float
    seed: int
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]


def build(data: str, *, split: str = "official", val_fraction: float = 0.15, seed: int = 0) -> Manifest:
    """Freeze a dataset's splits. Building the same again gives the same id and writes nothing new.

    Args:
        data: name of the dataset.
        split: a key of SPLIT_RULES.
        val_fraction: share of the pooled train and val images that goes to val, in (0, 0.5]; only for "patient".
        seed: of the patient split.

    Raises:
        UnknownName: no such dataset or split rule.
        BadInput: a share out of range, or too few patients to keep them apart.
    """
    if split not in SPLIT_RULES:
        raise UnknownName("split rule", split, SPLIT_RULES)
    dataset = datasets.get(data)
    table = index.read(data)[["id", "split", "class", "patient", "sha256"]].reset_index(names="row")
    if split == "patient":
        table = _by_patient(table, val_fraction, seed)
    table = table[list(COLUMNS)]
    manifest = Manifest(
        id=_content_id(table),
        data=data,
        split=split,
        val_fraction=val_fraction if split == "patient" else 0.0,
        seed=seed if split == "patient" else 0,
        classes=dataset.classes,
        counts=datasets.counts(table, dataset.classes),
    )
    folder = workspace.dataset(data) / "manifests"
    if not _is_whole(manifest):
        workspace.write_bytes(folder / f"{manifest.id}.parquet", table.to_parquet(index=False))
        workspace.write_json(folder / f"{manifest.id}.json", asdict(manifest))
    return manifest


def _is_whole(manifest: Manifest) -> bool:
    if not (workspace.dataset(manifest.data) / "manifests" / f"{manifest.id}.json").is_file():
        return False
    try:
        rows(manifest)
    except WorkFailed:
        return False
    return True


def get(data: str, manifest_id: str) -> Manifest:
    """A manifest that was built before.

    Raises:
        UnknownName: the dataset has none of this id.
    """
    folder = workspace.dataset(data) / "manifests"
    known = sorted(path.stem for path in folder.glob("*.json"))
    if manifest_id not in known:
        raise UnknownName(f"manifest of '{data}'", manifest_id, known)
    document = workspace.read_json(folder / f"{manifest_id}.json")
    return Manifest(**{**document, "classes": tuple(document["classes"])})


def rows(manifest: Manifest) -> pd.DataFrame:
    """The rows (COLUMNS) of a manifest.

    Raises:
        WorkFailed: its file is missing or damaged, or the dataset has changed under it.
    """
    path = workspace.dataset(manifest.data) / "manifests" / f"{manifest.id}.parquet"
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise WorkFailed(
            f"Manifest {manifest.id} of '{manifest.data}' is missing or damaged. Build it again."
        ) from error
    found = index.read(manifest.data)["sha256"]
    if table["row"].max() >= len(found) or (found.to_numpy()[table["row"]] != table["sha256"].to_numpy()).any():
        raise WorkFailed(
            f"Dataset '{manifest.data}' has changed since manifest {manifest.id} was built. Build it again."
        )
    return table


def _content_id(table: pd.DataFrame) -> str:
    """12 hexadecimal digits of the SHA-256 over the sorted (id, split, class, sha256); neither name nor path of the dataset."""
    lines = sorted(
        "\t".join(row) for row in table[["id", "split", "class", "sha256"]].astype(str).itertuples(index=False)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _by_patient(table: pd.DataFrame, val_fraction: float, seed: int) -> pd.DataFrame:
    from sklearn.model_selection import StratifiedGroupKFold

    if not 0 < val_fraction <= 0.5:
        raise BadInput(f"The validation share is above 0 and at most 0.5. Received: {val_fraction}.")
    pool = np.flatnonzero(table["split"].astype(str) != "test")
    if not len(pool):
        raise BadInput(
            "All images are in the test split; there are none to train on and to split. Add a training split."
        )
    groups, labels = table["patient"].to_numpy()[pool], table["class"].astype(str).to_numpy()[pool]
    fewest = min(len(set(groups[labels == label])) for label in set(labels))
    share = Fraction(val_fraction).limit_denominator(min(_MOST_FOLDS, fewest))
    if not 0 < share < 1:
        raise BadInput(
            f"A validation share of {val_fraction} needs at least {math.ceil(1 / val_fraction)} patients in each class; "
            f"one class has {fewest}. Choose a larger share, or the official split."
        )
    splitter = StratifiedGroupKFold(share.denominator, shuffle=True, random_state=seed)
    folds = [fold for _, fold in splitter.split(pool, labels, groups)]
    split = table["split"].astype(str).to_numpy(copy=True)
    split[pool] = "train"
    split[pool[np.concatenate(folds[: share.numerator])]] = "val"
    return table.assign(split=pd.Categorical(split, categories=["train", "val", "test"]))
