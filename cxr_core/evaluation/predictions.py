"""The predictions table: ids, true classes and probabilities of one split, row by row in one place.

    id (str) · true (str, a class name) · p_<class> (float64, one column per class, in class order)

On disk it is `predictions/<split>.parquet` in the folder of a run, and public.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from cxr_core import workspace
from cxr_core.arrays import Codes, Floats
from cxr_core.errors import BadInput, WorkFailed, stop_if_shortage

_PREFIX = "p_"
_SUM_TOLERANCE = 1e-3
_REPAIR = (
    "Restore the file from a backup, or train once more with the same settings (runs duplicate RUN); an ensemble is created "
    "again from its members."
)


def prediction_table(
    ids: Iterable[str], true: Iterable[str], probabilities: npt.ArrayLike, classes: Sequence[str]
) -> pd.DataFrame:
    """The table of n images and k classes, checked.

    Args:
        ids: n different image ids.
        true: n names, each one of `classes`.
        probabilities: (n, k) float, in [0, 1], every row summing to 1 within 1e-3 (what float16 softmax keeps).
        classes: the k different class names, in the order of the probabilities' columns.

    Raises:
        BadInput: anything else; the message names the first row at fault.
    """
    names = [str(name) for name in ids]
    truth = [str(name) for name in true]
    class_names = [str(name) for name in classes]
    values = np.asarray(probabilities, dtype=np.float64)
    if not class_names or len(set(class_names)) != len(class_names):
        raise BadInput(f"Class names must be different, and there must be one at least. Received: {class_names}.")
    if values.shape != (len(names), len(class_names)) or len(truth) != len(names):
        raise BadInput(
            "Every image needs one id, one true class and one probability per class. Received: "
            f"{len(names)} ids, {len(truth)} true classes, probabilities of shape {values.shape} for {len(class_names)} classes."
        )
    _check_names(names, truth, class_names)
    _check_probabilities(names, values)
    columns = {f"{_PREFIX}{name}": values[:, column] for column, name in enumerate(class_names)}
    return pd.DataFrame({"id": pd.Series(names, dtype="str"), "true": pd.Series(truth, dtype="str"), **columns})


def classes(table: pd.DataFrame) -> list[str]:
    """The class names in order, as the table's columns tell them."""
    return [str(column).removeprefix(_PREFIX) for column in table.columns if str(column).startswith(_PREFIX)]


def probabilities(table: pd.DataFrame) -> Floats:
    """(n, k) float64 in [0, 1], columns in class order."""
    return table[[_PREFIX + name for name in classes(table)]].to_numpy(dtype=np.float64)


def true_codes(table: pd.DataFrame) -> Codes:
    """(n,) the place of each true class in `classes(table)`, 0 to k - 1."""
    codes: Codes = pd.Index(classes(table)).get_indexer(pd.Index(table["true"]))
    return codes


def predicted_codes(table: pd.DataFrame) -> Codes:
    """(n,) the place of the most probable class in `classes(table)`; the first of equals."""
    codes: Codes = probabilities(table).argmax(axis=1)
    return codes


def predicted(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    """(n,) the name of the most probable class of each image; the first of equals."""
    return np.array(classes(table), dtype=np.str_)[predicted_codes(table)]


def write(path: Path, table: pd.DataFrame) -> None:
    """Write the table as Parquet, whole or not at all; missing folders are made.

    Raises:
        WorkFailed: the disk is full or the folder cannot be written.
    """
    content = io.BytesIO()
    table.to_parquet(content, engine="pyarrow", index=False)
    workspace.write_bytes(path, content.getvalue())


def read(path: Path) -> pd.DataFrame:
    """The table that `write` wrote, checked again.

    Raises:
        WorkFailed: the file is missing, torn, or holds something else.
    """
    try:
        table = pd.read_parquet(path, engine="pyarrow")
    except FileNotFoundError as error:
        raise WorkFailed(f"There are no predictions at {path}. {_REPAIR}") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        stop_if_shortage(error, str(path))
        raise WorkFailed(
            f"The predictions at {path} cannot be read: the file is damaged or no Parquet file. {_REPAIR}"
        ) from error
    class_names = classes(table)
    if not {"id", "true"} <= set(table.columns) or not class_names:
        raise WorkFailed(
            f"{path} is no predictions table: it needs the columns 'id', 'true' and one 'p_<class>' per class. "
            f"Received: {', '.join(map(str, table.columns))[:200]}."
        )
    try:
        return prediction_table(table["id"], table["true"], probabilities(table), class_names)
    except (BadInput, ValueError, TypeError) as error:
        raise WorkFailed(f"The predictions at {path} are not valid. {error} {_REPAIR}") from error


def _check_names(names: list[str], truth: list[str], class_names: list[str]) -> None:
    repeated = pd.Series(names, dtype="str").duplicated().to_numpy()
    unknown = pd.Index(class_names).get_indexer(pd.Index(truth, dtype="str")) < 0
    wrong = np.flatnonzero(repeated | unknown)
    if not wrong.size:
        return
    row = int(wrong[0])
    if repeated[row]:
        raise BadInput(f"Every image may come once. Row {row} has the id '{names[row]}' of an earlier row.")
    raise BadInput(
        f"Row {row} (image '{names[row]}') has a true class that is none of the classes. "
        f"Received: '{truth[row]}'. Known: {', '.join(class_names)}."
    )


def _check_probabilities(names: list[str], values: Floats) -> None:
    finite = np.asarray(np.isfinite(values).all(axis=1))
    inside = np.asarray(((values >= 0) & (values <= 1)).all(axis=1))
    whole = np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE
    wrong = np.flatnonzero(~(finite & inside & whole))
    if not wrong.size:
        return
    row = int(wrong[0])
    if not finite[row]:
        fault = "has a probability that is no finite number"
    elif not inside[row]:
        fault = "has a probability below 0 or above 1"
    else:
        fault = f"has probabilities that sum to {values[row].sum():.4g} instead of 1"
    received = ", ".join(f"{value:.4g}" for value in values[row, :20])
    raise BadInput(f"Row {row} (image '{names[row]}') {fault}. Received: {received}.")
