"""Metadata that the datasets of this workspace have of the images in a prediction set: their patients and their files."""

import numpy as np
import pandas as pd

from cxr_core.arrays import Codes
from cxr_core.data import audit, datasets, index
from cxr_core.errors import CxrError
from cxr_core.evaluation.prediction_set import PredictionSet

COLUMNS = ("data", "row", "patient", "source", "format", "mode", "width", "height", "bytes", "quality")


def read(predictions: PredictionSet, data: str) -> pd.DataFrame | None:
    """One row per image of `predictions`, in their order; None if the dataset is gone or does not know all images.

    Args:
        data: the run's dataset. Images that came from another are named `<dataset>:<id>`.

    Returns:
        COLUMNS: `data` and `row` say where in which index; patients of other datasets carry the prefix too.
    """
    ids = pd.Index(predictions.ids)
    if (table := _index(data)) is None:
        return None
    rows = pd.Index(table["id"]).get_indexer(ids)
    if (rows >= 0).all():
        return _rows(table, data, rows)
    parts = {data: (_rows(table, data, rows[rows >= 0]), rows >= 0)}
    for name in {str(image).split(":", 1)[0] for image in ids[rows < 0] if ":" in str(image)}:
        if (other := _index(name)) is None:
            return None
        other_rows = pd.Index(f"{name}:" + other["id"].astype(str)).get_indexer(ids)
        is_there = (other_rows >= 0) & (rows < 0)
        parts[name] = (_rows(other, name, other_rows[is_there], prefix=f"{name}:"), is_there)
    if sum(int(is_there.sum()) for _, is_there in parts.values()) < len(ids):
        return None
    return pd.concat([part.set_axis(np.flatnonzero(is_there)) for part, is_there in parts.values()]).sort_index()


def patients(predictions: PredictionSet, data: str) -> pd.Series | None:
    """(n,) the patient of each image, as the dataset `data` knows it; None if it is gone or does not know all."""
    metadata = read(predictions, data)
    return None if metadata is None else metadata["patient"]


def flagged(metadata: pd.DataFrame, kind: str) -> pd.Series:
    """(n,) whether the audit of the image's dataset has a finding of this kind on it.

    Raises:
        WorkFailed: there is no audit.
    """
    flags = pd.Series(False, index=metadata.index)
    for name in metadata["data"].unique():
        rows = audit.finding_rows(str(name), kind)["row"]
        flags |= (metadata["data"] == name) & metadata["row"].isin(rows)
    return flags


def _index(name: str) -> pd.DataFrame | None:
    if name not in datasets.list_names():
        return None
    try:
        return index.read(name, ["id", *COLUMNS[2:]])
    except CxrError:
        return None


def _rows(table: pd.DataFrame, name: str, positions: Codes, *, prefix: str = "") -> pd.DataFrame:
    rows = table[list(COLUMNS[2:])].take(positions).reset_index(drop=True)
    rows.insert(0, "row", positions)
    rows.insert(0, "data", name)
    if prefix:
        rows["patient"] = prefix + rows["patient"].astype(str)
    for column in ("source", "format", "mode"):  # categories differ between datasets
        rows[column] = rows[column].astype(object) if prefix else rows[column]
    return rows
