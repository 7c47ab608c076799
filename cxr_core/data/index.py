"""The index of a dataset: one row an image, one Parquet file. Row i of the index is row i of every packed array.

Columns
    id       path below the dataset's root, forward slashes; unique
    split    train, val or test, as the source has it
    class    one of the dataset's classes
    patient  who is on the image; equal for images of one person
    source   where the image came from (kaggle, folder, zip, synthetic)
    format, mode, width, height, bytes, sha256    what the file is
    quality  of a JPEG, 1 to 100; 0 for other files
"""

from pathlib import Path

import pandas as pd

from cxr_core import workspace
from cxr_core.errors import UnknownName, WorkFailed

COLUMNS = (
    "id",
    "split",
    "class",
    "patient",
    "source",
    "format",
    "mode",
    "width",
    "height",
    "bytes",
    "sha256",
    "quality",
)
_CATEGORIES = ("split", "class", "source", "format", "mode")


def write(folder: Path, table: pd.DataFrame) -> None:
    """Freeze `table` (COLUMNS, any order) as the index in `folder`."""
    table = table[list(COLUMNS)].astype(dict.fromkeys(_CATEGORIES, "category"))
    workspace.write_bytes(folder / "index.parquet", table.to_parquet(index=False))


def read(name: str) -> pd.DataFrame:
    """The index of the dataset `name`: COLUMNS, a RangeIndex, low-cardinality columns as categories.

    Raises:
        UnknownName: there is no such dataset.
        WorkFailed: its index is missing or damaged.
    """
    return _read(name, None)


def _read(name: str, columns: list[str] | None) -> pd.DataFrame:
    folder = workspace.dataset(name)
    if not folder.is_dir():
        raise UnknownName("dataset", name, workspace.names_in(workspace.datasets()))
    try:
        return pd.read_parquet(folder / "index.parquet", columns=columns)
    except (OSError, ValueError) as error:
        raise WorkFailed(
            f"The index of dataset '{name}' is missing or damaged. Remove the dataset and add it again."
        ) from error


def root(name: str) -> Path:
    """The folder that the ids of dataset `name` are below."""
    folder = workspace.dataset(name)
    if not (folder / "dataset.json").is_file():
        raise UnknownName("dataset", name, workspace.names_in(workspace.datasets()))
    return folder / str(workspace.read_json(folder / "dataset.json")["root"])


def column(name: str, column: str) -> pd.Series:
    """One column of the index, without reading the others."""
    return _read(name, [column])[column]
