"""Table of findings of NIH ChestX-ray14, `Data_Entry_2017*.csv`, and its lists of splits; images lie anywhere below a folder.

Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR 2017. Without chosen findings the classes
are `normal` ("No Finding") and `abnormal` (any finding).
"""

import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_core.data import allowed_paths
from cxr_core.data.image_files import subfolders, walk
from cxr_core.errors import BadDataset, UnknownName
from cxr_core.formatting import plural

TABLE = "Data_Entry_2017*.csv"
CITATION = "NIH Clinical Center, ChestX-ray14 (Wang et al., CVPR 2017). Free to use with this citation."
NO_FINDING = "No Finding"
_NEEDED = ("Image Index", "Finding Labels", "Patient ID")
_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
FILES = (TABLE, *_LISTS)
_READ_ERRORS = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # of pandas


def table_in(folder: Path) -> Path | None:
    """The table of findings, if it lies in the folder itself, or in the only one that it holds, as zips often have it."""
    while True:
        if tables := sorted(path for path in folder.glob(TABLE) if not allowed_paths.leads_out(path)):
            return tables[0]
        inside = subfolders(folder)
        if len(inside) != 1:
            return None
        folder = folder / inside[0]


def read(root: Path, table: Path, findings: Mapping[str, Sequence[str]]) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Read which image has which findings, and so which class.

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
    ids = {path.name: path.relative_to(root).as_posix() for path in sorted(walk(root))}  # NIH's names are unique
    images = pd.DataFrame({"id": list(ids.values())}, index=list(ids)).join(entries, how="left")
    images["label"] = _labels(images["Finding Labels"].fillna(""), findings)
    reasons = np.where(
        images["Finding Labels"].isna(),
        "The table of findings does not name it.",
        "Its findings fit none of the classes, or several.",
    )
    without_class = (images["label"] == "").to_numpy()
    skipped = [
        (image, str(why)) for image, why in zip(images["id"][without_class], reasons[without_class], strict=True)
    ]
    if absent := len(entries.index.difference(images.index)):
        skipped.append((table.name, f"Not in the folder: {plural(absent, 'image')} of the table."))
    images = images[~without_class]
    return pd.DataFrame(
        {
            "id": images["id"].to_numpy(),
            "split": _splits(images.index, root, table),
            "label": images["label"].to_numpy(),
            "patient": images["Patient ID"].astype(str).to_numpy(),
        }
    ), skipped


def _entries(table: Path) -> pd.DataFrame:
    """The needed columns, by image.

    The file may be any file of this machine, so messages quote nothing of it, nor pandas, which does.
    """
    expected = f"Expected: a CSV with the columns {', '.join(_NEEDED)}, as NIH's {TABLE}."
    try:
        entries = pd.read_csv(table, encoding="utf-8-sig", dtype=str).rename(columns=str.strip)
    except _READ_ERRORS:
        raise BadDataset(f"{table} cannot be read as a table of findings. {expected}") from None
    missing = [name for name in _NEEDED if name not in entries]
    if missing:
        raise BadDataset(
            f"{table.name} has no column {' and no '.join(missing)}. {expected} "
            f"Received: {plural(len(entries.columns), 'column')}."
        )
    return entries[list(_NEEDED)].dropna().drop_duplicates("Image Index").set_index("Image Index")


def _labels(texts: pd.Series, findings: Mapping[str, Sequence[str]]) -> pd.Series:
    """Class of each text of findings ("Effusion|Mass"), "" where none or several fit."""
    sets = {text: frozenset(text.split("|")) for text in texts.unique()}
    if not findings:
        classes = {text: "normal" if text == NO_FINDING else "abnormal" if text else "" for text in sets}
        return texts.map(classes)
    names = sorted(frozenset().union(*sets.values()) - {""})
    for finding in (name for wanted in findings.values() for name in wanted):
        if finding not in names:
            raise UnknownName("finding", finding, names)
    classes_of = {"normal": {NO_FINDING}, **{label: set(wanted) for label, wanted in findings.items()}}

    def label(present: frozenset[str]) -> str:
        fitting = [name for name, wanted in classes_of.items() if present & wanted]
        return fitting[0] if len(fitting) == 1 else ""

    return texts.map({text: label(present) for text, present in sets.items()})


def _splits(names: pd.Index, root: Path, table: Path) -> np.ndarray:
    splits = np.full(len(names), "train", dtype=object)
    for file, split in _LISTS.items():
        path = next((folder / file for folder in (root, table.parent) if _is_readable(folder / file)), None)
        if path is not None:
            splits[names.isin(_read_names(path))] = split
    return splits


def _is_readable(path: Path) -> bool:
    return not allowed_paths.leads_out(path) and path.is_file()


def _read_names(path: Path) -> list[str]:
    """Names of images in a list of a split."""
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        raise BadDataset(f"{path.name} cannot be read as a list of names of images.") from None
