"""The table is aligned and checked, and survives the disk or says plainly that it did not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_core.errors import BadInput, WorkFailed
from cxr_core.evaluation import predictions

CLASSES = ["normal", "viral", "bacterial"]
IDS = ["a.jpeg", "b.jpeg", "c.jpeg"]
TRUE = ["normal", "bacterial", "viral"]
ROWS = np.array([[0.7, 0.2, 0.1], [0.1, 0.4, 0.5], [0.4, 0.4, 0.2]])


def made(**changed: object) -> pd.DataFrame:
    return predictions.prediction_table(
        **({"ids": IDS, "true": TRUE, "probabilities": ROWS, "classes": CLASSES} | changed)
    )  # type: ignore[arg-type]


def with_row_1(*row: float) -> np.ndarray:
    return np.array([ROWS[0], row, ROWS[2]])


def test_columns_order_and_types() -> None:
    table = made(probabilities=ROWS.astype(np.float32), classes=tuple(CLASSES))
    assert list(table.columns) == ["id", "true", "p_normal", "p_viral", "p_bacterial"]
    assert [str(kind) for kind in table.dtypes] == ["str", "str", "float64", "float64", "float64"]
    assert predictions.classes(table) == CLASSES


def test_predicted_is_the_most_probable_and_the_first_of_equals() -> None:
    assert predictions.predicted(made()).tolist() == ["normal", "bacterial", "normal"]
    assert predictions.true_codes(made()).tolist() == [0, 2, 1]


def test_rows_of_a_filtered_frame_stay_in_order() -> None:
    frame = pd.DataFrame({"id": IDS, "class": TRUE}, index=[9, 4, 7])
    table = made(ids=frame["id"], true=frame["class"])
    assert table["id"].tolist() == IDS and table["true"].tolist() == TRUE and table.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"probabilities": with_row_1(0.1, np.nan, 0.5)}, "Row 1 .*b.jpeg.*no finite"),
        ({"probabilities": with_row_1(0.1, np.inf, 0.5)}, "Row 1 .*b.jpeg.*no finite"),
        ({"probabilities": with_row_1(-0.1, 0.6, 0.5)}, "Row 1 .*b.jpeg.*below 0 or above 1"),
        ({"probabilities": with_row_1(0.1, 0.4, 0.4)}, "Row 1 .*b.jpeg.*sum to 0.9 "),
        ({"true": ["normal", "fungal", "viral"]}, "Row 1 .*b.jpeg.*'fungal'.*normal, viral, bacterial"),
        ({"ids": ["a.jpeg", "b.jpeg", "a.jpeg"]}, "Row 2 .*a.jpeg"),
        ({"ids": IDS[:2]}, "2 ids, 3 true classes"),
        ({"true": TRUE[:2]}, "3 ids, 2 true classes"),
        ({"classes": CLASSES[:2]}, r"\(3, 3\) for 2 classes"),
        ({"probabilities": ROWS[0]}, r"shape \(3,\)"),
        ({"classes": ["normal", "viral", "viral"]}, "different"),
    ],
)
def test_what_is_wrong_is_refused_by_name(changed: dict[str, object], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        made(**changed)


def test_sums_may_be_off_by_rounding_only() -> None:
    made(probabilities=with_row_1(0.1, 0.4, 0.5009))
    with pytest.raises(BadInput, match="sum"):
        made(probabilities=with_row_1(0.1, 0.4, 0.5011))


def test_disk_gives_back_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "predictions" / "test.parquet"
    predictions.write(path, made())
    pd.testing.assert_frame_equal(predictions.read(path), made())
    assert [entry.name for entry in path.parent.iterdir()] == ["test.parquet"]


def test_empty_split_and_odd_class_names_survive(tmp_path: Path) -> None:
    odd = predictions.prediction_table([], [], np.empty((0, 2)), ["p_one", "two words"])
    predictions.write(tmp_path / "e.parquet", odd)
    assert predictions.classes(predictions.read(tmp_path / "e.parquet")) == ["p_one", "two words"]


@pytest.mark.parametrize("kept", [0, 3, 200, -1])
def test_torn_file(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "test.parquet"
    predictions.write(path, made())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WorkFailed, match=r"cannot be read: .* \(runs duplicate RUN\)") as caught:
        predictions.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="no predictions at"):
        predictions.read(tmp_path / "test.parquet")


def test_other_tables_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(WorkFailed, match="no predictions table"):
        predictions.read(tmp_path / "x.parquet")
    made().assign(p_viral=2.0).to_parquet(tmp_path / "y.parquet")
    with pytest.raises(WorkFailed, match="Row 0"):
        predictions.read(tmp_path / "y.parquet")


def test_failed_write_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "test.parquet" / "in the way").mkdir(parents=True)
    with pytest.raises(WorkFailed, match="Could not write"):
        predictions.write(tmp_path / "test.parquet", made())
    assert [entry.name for entry in tmp_path.iterdir()] == ["test.parquet"]
