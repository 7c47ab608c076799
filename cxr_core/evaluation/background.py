"""What the datasets of this workspace know of the images in a predictions table: who is on them, and what their files are."""

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
    found = _known(data, wanted, "")
    missing = wanted[~wanted.isin(found.index)]
    parts = [found]
    for name in {str(one).split(":", 1)[0] for one in missing if ":" in str(one)}:
        parts.append(_known(name, missing, f"{name}:"))
    whole = pd.concat([part for part in parts if len(part)]) if any(map(len, parts)) else found
    return whole.loc[wanted].reset_index(drop=True) if wanted.isin(whole.index).all() else None


def _known(name: str, wanted: pd.Index, prefix: str) -> pd.DataFrame:
    if name not in datasets.names():
        return pd.DataFrame(columns=list(COLUMNS))
    try:
        table = index.read(name, ["id", *COLUMNS[2:]])
    except CxrError:
        return pd.DataFrame(columns=list(COLUMNS))
    places = pd.Index(prefix + table["id"].astype(str) if prefix else table["id"]).get_indexer(wanted)
    there = places >= 0
    rows = table.iloc[places[there]]
    rows = rows.assign(
        data=name, row=places[there], patient=prefix + rows["patient"].astype(str),
        **{column: rows[column].astype(str) for column in ("source", "format", "mode")},
    )  # fmt: skip
    return rows[list(COLUMNS)].set_axis(wanted[there])


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
