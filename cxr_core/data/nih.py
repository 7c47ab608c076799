"""NIH ChestX-ray14: images anywhere below a folder, their findings in a table `Data_Entry_2017*.csv`.

Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR 2017. Without chosen findings the classes
are `normal` ("No Finding") and `abnormal` (any finding).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_core.errors import BadDataset, UnknownName
from cxr_core.formatting import plural
from cxr_core.images import SUFFIXES

TABLE = "Data_Entry_2017*.csv"
CITATION = "NIH Clinical Center, ChestX-ray14 (Wang et al., CVPR 2017). Free to use with this citation."
NO_FINDING = "No Finding"
_NEEDED = ("Image Index", "Finding Labels", "Patient ID")
_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
FILES = (TABLE, *_LISTS)


def table_in(folder: Path) -> Path | None:
    """The table of findings, if it lies in the folder itself, or in the only one that it holds, as zips often have it."""
    while True:
        if found := sorted(folder.glob(TABLE)):
            return found[0]
        inside = [one for one in folder.iterdir() if one.is_dir() and not one.name.startswith((".", "__MACOSX"))]
        if len(inside) != 1:
            return None
        folder = inside[0]


def read(root: Path, table: Path, findings: Mapping[str, Sequence[str]]) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Which image is what.

    Args:
        root: the folder of images.
        table: the CSV.
        findings: class to the findings that make it; empty for normal against abnormal.

    Returns:
        A table with the columns id (path below root), split, label, patient; and (file, reason) of what was left out.
        Splits are those of `train_val_list.txt` and `test_list.txt` beside the images or the table, else all is train.

    Raises:
        BadDataset: the table is none of these.
        UnknownName: a finding that the table does not have; lists those it has.
    """
    entries = _entries(table)
    paths = _images(root)
    found = pd.DataFrame({"id": list(paths.values())}, index=list(paths))
    named = found.join(entries, how="left")
    named["label"] = _labels(named["Finding Labels"].fillna(""), findings)
    unknown = named["Finding Labels"].isna()
    reasons = np.where(
        unknown, "The table of findings does not name it.", "Its findings fit none of the classes, or several."
    )
    skipped = [(one, str(why)) for one, why in zip(named["id"], reasons, strict=True)]
    left_out = (named["label"] == "").to_numpy()
    absent = len(entries.index.difference(found.index))
    rest = [one for one, out in zip(skipped, left_out, strict=True) if out]
    if absent:
        rest.append((table.name, f"Not in the folder: {plural(absent, 'image')} of the table."))
    kept = named[~left_out]
    return pd.DataFrame(
        {
            "id": kept["id"].to_numpy(),
            "split": _splits(kept.index, root, table),
            "label": kept["label"].to_numpy(),
            "patient": kept["Patient ID"].astype(str).to_numpy(),
        }
    ), rest


def _entries(table: Path) -> pd.DataFrame:
    try:
        entries = pd.read_csv(table, encoding="utf-8-sig", dtype=str).rename(columns=str.strip)
    except (OSError, ValueError) as error:
        raise BadDataset(f"{table} cannot be read as a table of findings ({error}).") from error
    missing = [name for name in _NEEDED if name not in entries]
    if missing:
        raise BadDataset(
            f"{table.name} has no column {' and no '.join(missing)}. Expected: {', '.join(_NEEDED)}, as in NIH's {TABLE}. "
            f"Received: {', '.join(map(str, entries.columns[:12]))}."
        )
    return entries[list(_NEEDED)].dropna().drop_duplicates("Image Index").set_index("Image Index")


def _images(root: Path) -> dict[str, str]:
    """File name to path below `root`; NIH's names are unique."""
    return {
        name: (Path(folder) / name).relative_to(root).as_posix()
        for folder, _, names in os.walk(root)
        for name in sorted(names)
        if not name.startswith(".") and name.lower().endswith(SUFFIXES)
    }


def _labels(told: pd.Series, findings: Mapping[str, Sequence[str]]) -> pd.Series:
    """The class of each row, "" where none or several fit."""
    kinds = {text: frozenset(text.split("|")) for text in told.unique()}
    if not findings:
        classes = {text: "normal" if text == NO_FINDING else "abnormal" if text else "" for text in kinds}
        return told.map(classes)
    known = sorted(frozenset().union(*kinds.values()) - {""})
    for wanted in findings.values():
        for one in wanted:
            if one not in known:
                raise UnknownName("finding", one, known)
    chosen = {"normal": {NO_FINDING}, **{label: set(wanted) for label, wanted in findings.items()}}

    def label(has: frozenset[str]) -> str:
        fitting = [name for name, wanted in chosen.items() if has & wanted]
        return fitting[0] if len(fitting) == 1 else ""

    return told.map({text: label(has) for text, has in kinds.items()})


def _splits(names: pd.Index, root: Path, table: Path) -> np.ndarray:
    splits = np.full(len(names), "train", dtype=object)
    for file, split in _LISTS.items():
        path = next((place / file for place in (root, table.parent) if (place / file).is_file()), None)
        if path is not None:
            splits[names.isin(path.read_text().split())] = split
    return splits
