"""Ask a dataset for images: filters and order, in whole columns, so that a million rows answer at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.data import decisions, index
from cxr_core.errors import UnknownName

SORTS = {
    "source": "As the source has them",
    "id": "File name",
    "patient": "Patient",
    "pixels": "Most pixels",
    "bytes": "Largest file",
}
STATES = {
    "open": "Undecided",
    "excluded": "Excluded",
    "relabelled": "Relabelled",
    "tagged": "Tagged",
}

COLUMNS = ("id", "split", "class", "patient", "source", "width", "height", "bytes")  # the others nobody filters by

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Query:
    """Filter of images; an empty one lets everything through.

    Attributes:
        splits, classes, sources: any of these; classes as they are after the decisions.
        text: in the file's path, the patient or a tag, in any case.
        states: keys of STATES, any of these.
        sort: a key of SORTS.
    """

    splits: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    text: str = ""
    states: tuple[str, ...] = ()
    sort: str = "source"


def curated_index(name: str) -> pd.DataFrame:
    """The index after the decisions in force, row by row.

    Returns:
        COLUMNS of the index, with `class` as decided; and excluded and relabelled (bool), was (class in the source),
        tags (str).

    Raises:
        UnknownName: no such dataset.
        WorkFailed: a damaged file.
    """
    table = index.read(name, COLUMNS)
    table["was"], table["excluded"], table["relabelled"], table["tags"] = table["class"], False, False, ""
    decided = decisions.resolved(name)
    if decided.empty:
        return table
    rows = np.flatnonzero(table["id"].isin(decided.index).to_numpy())
    decided = decided.loc[table["id"].iloc[rows]]
    table.loc[rows, "excluded"] = decided["excluded"].to_numpy()
    table.loc[rows, "tags"] = decided["tags"].to_numpy()
    labels = decided["label"].to_numpy()
    changed = rows[labels != ""]
    fresh = [label for label in pd.unique(labels[labels != ""]) if label not in table["class"].cat.categories]
    table["class"] = table["class"].cat.add_categories(fresh)
    table.loc[changed, "class"] = labels[labels != ""]
    table["relabelled"] = table["class"].astype(str) != table["was"].astype(str)
    return table


def select(table: pd.DataFrame, query: Query, *, order: Positions | None = None) -> Positions:
    """Positions in `table` (of `curated`), int (n,), of the images asked for, in the order asked for.

    Args:
        order: of `order_of` for the query's sort, if it is at hand; sorting is the only slow part.

    Raises:
        UnknownName: no such sort or state.
    """
    for state in query.states:
        if state not in STATES:
            raise UnknownName("state", state, STATES)
    keep = np.ones(len(table), dtype=bool)
    for column, wanted in (("split", query.splits), ("class", query.classes), ("source", query.sources)):
        if wanted:
            keep &= _isin(table[column], wanted)
    if query.text:
        keep &= _mentions(table, query.text)
    if query.states:
        keep &= np.logical_or.reduce([_state(table, state) for state in query.states])
    if query.sort == "source":
        return np.flatnonzero(keep)
    positions = sort_order(table, query.sort) if order is None else order
    return positions[keep[positions]]


def sort_order(table: pd.DataFrame, sort: str) -> Positions:
    """All positions of `table` in the order of a key of SORTS; equal ones as the source has them."""
    if sort not in SORTS:
        raise UnknownName("sort", sort, SORTS)
    if sort == "source":
        return np.arange(len(table))
    if sort == "pixels":
        return np.argsort(-(table["width"].to_numpy(dtype=np.int64) * table["height"].to_numpy()), kind="stable")
    if sort == "bytes":
        return np.argsort(-table["bytes"].to_numpy(dtype=np.int64), kind="stable")
    return table[sort].reset_index(drop=True).sort_values(kind="stable").index.to_numpy()


def _isin(column: pd.Series, wanted: Sequence[str]) -> npt.NDArray[np.bool_]:
    codes = column.cat.categories.get_indexer(pd.Index(list(wanted)))
    return np.isin(column.cat.codes.to_numpy(), codes[codes >= 0])


def _mentions(table: pd.DataFrame, text: str) -> npt.NDArray[np.bool_]:
    matches = np.zeros(len(table), dtype=bool)
    for column in ("id", "patient"):
        matches |= table[column].str.contains(text, case=False, regex=False).to_numpy(dtype=bool)
    tagged = np.flatnonzero((table["tags"] != "").to_numpy(dtype=bool))  # few of them
    matches[tagged] |= table["tags"].iloc[tagged].str.contains(text, case=False, regex=False).to_numpy(dtype=bool)
    return matches


def _state(table: pd.DataFrame, state: str) -> npt.NDArray[np.bool_]:
    masks = {
        "excluded": table["excluded"].to_numpy(dtype=bool),
        "relabelled": table["relabelled"].to_numpy(dtype=bool),
        "tagged": (table["tags"] != "").to_numpy(dtype=bool),
    }
    return ~np.logical_or.reduce(list(masks.values())) if state == "open" else masks[state]
