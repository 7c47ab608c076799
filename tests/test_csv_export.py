"""No cell of a CSV is a formula, and nothing else is changed."""

import io

import pandas as pd
import pytest

from cxr_core import csv_export


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_texts_that_look_like_formulas_are_made_harmless(start: str) -> None:
    cell = f"{start}HYPERLINK(1)"
    table = pd.DataFrame({"id": [cell, "a-b.jpeg"], cell: ["x", "y"]})
    read = pd.read_csv(io.BytesIO(csv_export.csv(table)), keep_default_na=False, lineterminator="\n")
    assert read.iloc[0, 0] == f"'{cell}" and read.iloc[1, 0] == "a-b.jpeg"
    assert read.columns.tolist() == ["id", f"'{cell}"]
    assert table.iloc[0, 0] == cell  # the table itself stays


def test_numbers_stay_numbers() -> None:
    read = pd.read_csv(io.BytesIO(csv_export.csv(pd.DataFrame({"a": [-1.5, 0.123456789], "b": [-3, 4]}))))
    assert read["a"].tolist() == [-1.5, 0.123457] and read["b"].tolist() == [-3, 4]
