"""What the datasets of this workspace know of the images in a predictions table: who is on them, and what their files are."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.data import audit, datasets, index
from cxr_core.errors import CxrError
from cxr_core.evaluation.answers import Answers

COLUMNS = ("data", "row", "patient", "source", "format", "mode", "width", "height", "bytes", "quality")


def of(answers: Answers, data: str) -> pd.DataFrame | None:
    """One row per image of `answers`, in their order; None if the dataset is gone or does not know all images.

    Args:
        data: the run's dataset. Images that came from another are called `<dataset>:<id>`.

    Returns:
        COLUMNS: `data` and `row` say where in which index; patients of other datasets carry the prefix too.
    """
    wanted = pd.Index(answers.ids)
    if (table := _index(data)) is None:
        return None
    places = pd.Index(table["id"]).get_indexer(wanted)
    if (places >= 0).all():
        return _rows(table, data, places)
    parts = {data: (_rows(table, data, places[places >= 0]), places >= 0)}
    for name in {str(one).split(":", 1)[0] for one in wanted[places < 0] if ":" in str(one)}:
        if (other := _index(name)) is None:
            return None
        found = pd.Index(f"{name}:" + other["id"].astype(str)).get_indexer(wanted)
        there = (found >= 0) & (places < 0)
        parts[name] = (_rows(other, name, found[there], prefix=f"{name}:"), there)
    if sum(int(there.sum()) for _, there in parts.values()) < len(wanted):
        return None
    rows = [part.set_axis(np.flatnonzero(there)) for part, there in parts.values()]
    return pd.concat(rows).sort_index()


def patients(answers: Answers, data: str) -> pd.Series | None:
    """(n,) who is on each image of `answers`, as the dataset `data` knows it; None if it is gone or does not know all."""
    about = of(answers, data)
    return None if about is None else about["patient"]


def _index(name: str) -> pd.DataFrame | None:
    if name not in datasets.names():
        return None
    try:
        return index.read(name, ["id", *COLUMNS[2:]])
    except CxrError:
        return None


def _rows(table: pd.DataFrame, name: str, places: npt.NDArray[np.intp], *, prefix: str = "") -> pd.DataFrame:
    rows = table[list(COLUMNS[2:])].take(places).reset_index(drop=True)
    rows.insert(0, "row", places)
    rows.insert(0, "data", name)
    if prefix:
        rows["patient"] = prefix + rows["patient"].astype(str)
    for column in ("source", "format", "mode"):  # categories differ between datasets
        rows[column] = rows[column].astype(object) if prefix else rows[column]
    return rows


def flagged(about: pd.DataFrame, kind: str) -> pd.Series:
    """(n,) whether the audit of the image's dataset has found `kind` in it.

    Raises:
        WorkFailed: there is no audit.
    """
    flags = pd.Series(False, index=about.index)
    for name in about["data"].unique():
        rows = audit.rows(str(name), kind)["row"]
        flags |= (about["data"] == name) & about["row"].isin(rows)
    return flags
