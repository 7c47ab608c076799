"""The plots of the workbench: told apart without colour, honest at the edges, drawn for odd input."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from cxr_core.evaluation import calibration, charts, curves
from cxr_core.evaluation.answers import Answers
from tests import made_up

TITLES = {"normal": "Normal", "viral": "Viral pneumonia", "bacterial": "Bacterial pneumonia"}


def answers(n: int = 300, classes: int = 3) -> Answers:
    true = np.arange(n) % classes
    return Answers(np.arange(n).astype(object), true, made_up.probabilities(true, 3), made_up.CLASSES)


def lines(figure: go.Figure) -> list[go.Scatter]:
    return [one for one in figure.data if one.showlegend is not False]


@pytest.mark.parametrize("dark", [False, True])
def test_curves_differ_in_dash_and_mark_and_say_their_area(dark: bool) -> None:
    found = answers()
    rocs, recalls = charts.of_classes(found, TITLES)
    for drawn, of in (
        (charts.roc(rocs, dark=dark), curves.auc),
        (charts.precision_recall(recalls, dark=dark), curves.average_precision),
    ):
        shown = lines(drawn)
        assert len({one.line.dash for one in shown}) == 3
        marks = [one.marker.symbol for one in drawn.data if one.mode == "markers"]
        assert len(set(marks)) == 3 and marks == [one.marker.symbol for one in shown]  # the legend shows dash and mark
        for code, one in enumerate(shown):
            value = of(found.true == code, found.probabilities[:, code])
            assert f"{value:.3f}" in one.name and TITLES[found.classes[code]] in one.name


def test_a_class_that_is_not_there_has_no_curve() -> None:
    rocs, recalls = charts.of_classes(answers(classes=2), TITLES)
    assert len(rocs) == len(recalls) == 2
    assert charts.of_classes(answers(classes=1), TITLES) == ([], [])


def test_reliability_carries_its_intervals() -> None:
    found = answers()
    table = calibration.reliability(found.probabilities.max(axis=1), found.right)
    drawn = charts.reliability({"As it is": table, "After": table})
    first, second = lines(drawn)
    np.testing.assert_allclose(np.asarray(first.y) + np.asarray(first.error_y.array), table["share_high"])
    np.testing.assert_allclose(np.asarray(first.y) - np.asarray(first.error_y.arrayminus), table["share_low"])
    assert first.line.dash != second.line.dash and first.marker.symbol != second.marker.symbol
    assert drawn.layout.shapes[0].type == "line"


def test_histograms_are_shares_of_their_group_and_name_its_size() -> None:
    groups = {"Ill": np.full(10, 0.92), "Well": np.linspace(0, 1, 40)}
    drawn = charts.scores(groups, ("#112233", "#445566"), title="Score", threshold=0.5)
    assert [one.name for one in drawn.data] == ["Ill (10)", "Well (40)"]
    assert max(drawn.data[0].y) == 1 and sum(drawn.data[1].y) == pytest.approx(2)  # each bin has two corners
    assert len({one.fillpattern.shape for one in drawn.data}) == 2
    assert drawn.layout.shapes[0].x0 == 0.5
    charts.scores({"None": np.empty(0)}, ("#112233",), title="Score")


def test_a_forest_stands_missing_intervals_and_narrow_ranges() -> None:
    table = pd.DataFrame(
        {"name": ["a", "b"], "value": [0.9, 0.91], "low": [0.89, np.nan], "high": [0.92, np.nan], "mark": [0, 7], "hover": ["", ""]}
    )  # fmt: skip
    assert charts.forest(table, title="Accuracy").layout.xaxis.tickformat == ".1%"
    assert charts.forest(table.assign(low=0.2), title="Accuracy").layout.xaxis.tickformat == ".0%"
    assert charts.forest(table, title="Loss", share=False).layout.xaxis.tickformat == ".3f"
    assert not charts.forest(table.iloc[:0], title="Accuracy").layout.annotations


def test_names_of_a_forest_stand_above_their_rows_and_fit_a_phone() -> None:
    table = pd.DataFrame(
        {"name": ["<b>a</b>", "x" * 80], "value": [0.9, 0.8], "low": 0.7, "high": 0.95, "mark": 0, "hover": ""}
    )
    drawn = charts.forest(table, title="Accuracy")
    first, second = drawn.layout.annotations
    assert first.text == "&lt;b&gt;a&lt;/b&gt;" and (first.x, first.xref, first.y) == (0, "paper", 0)
    assert len(second.text) <= 52 and second.text.endswith("…")
    bottom, top = drawn.layout.yaxis.range
    assert bottom > 1 and top < -0.5 and drawn.layout.yaxis.showticklabels is False
