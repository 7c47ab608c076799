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

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pandas as pd
from pyarrow.parquet import ParquetFile

from cxr_core import workspace
from cxr_core.errors import DamagedFile, UnknownName, WorkFailed, stop_if_shortage

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
SPLITS = ("train", "val", "test")  # of sources and manifests, in this order everywhere
_GROUP = 50_000  # rows that are read to get at one
_CATEGORIES = ("split", "class", "source", "format", "mode")


def write(folder: Path, table: pd.DataFrame) -> None:
    """Freeze `table` (COLUMNS, any order) as the index in `folder`."""
    table = table[list(COLUMNS)].astype(dict.fromkeys(_CATEGORIES, "category"))
    workspace.write_bytes(folder / "index.parquet", table.to_parquet(index=False, row_group_size=_GROUP))


def read(name: str, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """The index of the dataset `name`: `columns`, a RangeIndex, low-cardinality columns as categories.

    Raises:
        UnknownName: there is no such dataset.
        WorkFailed: its index is missing or damaged.
    """
    with _index_path(name) as path:
        return pd.read_parquet(path, columns=list(columns))


def count_rows(name: str) -> int:
    """Number of images, from the file's footer alone."""
    with _index_path(name) as path, ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def is_complete(name: str, images: int) -> bool:
    """True if the index is there and has a row for each of so many images, as its footer tells: cheap enough for any page."""
    path = workspace.dataset(name) / "index.parquet"
    try:
        return _count_rows(path, workspace.fingerprint(path)) == images
    except (OSError, ValueError) as error:
        stop_if_shortage(error, f"The index of dataset '{name}'")
        return False


@lru_cache(maxsize=256)
def _count_rows(path: Path, fingerprint: workspace.Fingerprint) -> int:  # noqa: ARG001 - part of the key
    with ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def damaged_error(name: str) -> WorkFailed:
    """The error of an index that cannot be read."""
    return WorkFailed(
        f"The index of dataset '{name}' is missing or damaged. Remove the dataset (data remove {name}) and add it again."
    )


def row_counts(name: str) -> list[int]:
    """Numbers of images that the dataset has had, from its addition over all that were added later, oldest first."""
    try:
        document = workspace.read_json(workspace.dataset(name) / "dataset.json")
        lengths = [int(document["images"])]
        for addition in reversed(document.get("additions", ())):
            lengths.append(lengths[-1] - int(addition["images"]))
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise DamagedFile(f"The description of dataset '{name}' is damaged. Restore it from a backup.") from error
    return lengths[::-1]


def row(name: str, number: int) -> pd.Series:
    """One row (COLUMNS) of the index, without reading the others."""
    with _index_path(name) as path, ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if number < size:
                return file.read_row_group(group).slice(number, 1).to_pandas().iloc[0]
            number -= size
    raise IndexError(number)


@contextmanager
def _index_path(name: str) -> Iterator[Path]:
    """Path of the index; an error of reading it becomes `damaged_error`."""
    folder = workspace.dataset(name)
    if not folder.is_dir():
        raise UnknownName("dataset", name, workspace.list_dirs(workspace.datasets()))
    try:
        yield folder / "index.parquet"
    except (OSError, ValueError, MemoryError) as error:
        stop_if_shortage(error, f"The index of dataset '{name}'")
        raise damaged_error(name) from error


def counts(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images of a table per split and class, both in the agreed order; every class is named in every split that has images."""
    sizes = table.groupby(["split", "class"], observed=True).size().to_dict()
    present = [split for split in SPLITS if (table["split"] == split).any()]
    return {split: {label: int(sizes.get((split, label), 0)) for label in classes} for split in present}


def root(name: str) -> Path:
    """The folder that the ids of dataset `name` are below."""
    folder = workspace.dataset(name)
    if not (folder / "dataset.json").is_file():
        raise UnknownName("dataset", name, workspace.list_dirs(workspace.datasets()))
    document = workspace.read_json(folder / "dataset.json")
    if not isinstance(document, dict) or not isinstance(document.get("root"), str):
        raise DamagedFile(
            f"The description of dataset '{name}' is damaged: it names no folder. Restore it from a backup."
        )
    return folder / document["root"]


def column(name: str, column: str) -> pd.Series:
    """One column of the index, without reading the others."""
    return read(name, [column])[column]
