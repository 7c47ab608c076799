"""Plots say in text and shape what they say in colour, and stand odd input."""

import re
import tomllib

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from cxr_core.evaluation import calibration, curves, plots
from cxr_core.evaluation.prediction_set import PredictionSet
from tests import synthetic_runs
from tests.conftest import PROJECT

TITLES = {"normal": "Normal", "viral": "Viral pneumonia", "bacterial": "Bacterial pneumonia"}
COUNTS = [[110, 2, 122], [1, 12, 135], [0, 1, 241]]
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "loss": [1.0, 0.8, 0.7],
        "accuracy": [0.5, 0.6, 0.7],
        "val_loss": [1.1, 0.9, 1.0],
        "val_accuracy": [0.4, 0.6, 0.5],
    }
)


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(scale: tuple[tuple[float, str], ...], share: float) -> str:
    ends = [np.array([int(shade[start : start + 2], 16) for start in (1, 3, 5)]) for _, shade in scale]
    return "#" + "".join(f"{round(value):02x}" for value in (1 - share) * ends[0] + share * ends[1])


def plain(text: str) -> str:
    return re.sub(r"<[^>]+>", " ", text).split().__str__()


@pytest.mark.parametrize("dark", [False, True])
def test_every_figure_has_the_background_of_the_page_and_no_title(dark: bool) -> None:
    drawn = [
        plots.confusion_matrix(COUNTS, list(TITLES.values()), dark=dark),
        plots.learning_curves(HISTORY, best_epoch=2, dark=dark),
        plots.class_counts({"train": {"normal": 3}}, TITLES, split_titles={}, dark=dark),
        plots.class_probabilities({"normal": 0.7, "viral": 0.3}, TITLES, dark=dark),
    ]
    for figure in drawn:
        layout = go.Figure(figure.to_dict()).layout
        assert layout.paper_bgcolor == layout.plot_bgcolor == plots.BACKGROUND[dark]
        assert layout.title.text is None and "sans-serif" in layout.font.family
        assert contrast(layout.font.color, plots.BACKGROUND[dark]) > 7


def test_the_background_is_that_of_the_theme() -> None:
    theme = tomllib.loads((PROJECT / ".streamlit/config.toml").read_text())["theme"]
    assert {False: theme["light"]["backgroundColor"], True: theme["dark"]["backgroundColor"]} == plots.BACKGROUND


def test_a_plot_is_saved_under_a_name_that_any_disk_takes() -> None:
    made = plots.config("roc of run/1: test")["toImageButtonOptions"]
    assert made["filename"] == "roc-of-run-1--test" and made["format"] == "png"
    assert "toImage" not in plots.CONFIG["modeBarButtonsToRemove"]


def test_no_cloud_button_and_no_logo() -> None:
    assert plots.CONFIG["showSendToCloud"] is False and plots.CONFIG["displaylogo"] is False


def test_confusion_writes_count_and_share_in_every_cell() -> None:
    for shares, expected in ((False, "['12', '8%']"), (True, "['8%', '12']")):
        figure = plots.confusion_matrix(COUNTS, list(TITLES.values()), shares=shares)
        cells = {(note.y, note.x): plain(note.text) for note in figure.layout.annotations}
        assert len(cells) == 9 and cells[(1, 1)] == expected


def test_confusion_runs_from_top_left_with_true_rows() -> None:
    figure = plots.confusion_matrix(COUNTS, list(TITLES.values()))
    assert figure.layout.yaxis.autorange == "reversed"
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("Predicted class", "True class")
    np.testing.assert_allclose(figure.data[0].z.sum(axis=1), 1)


def test_confusion_hover_is_a_sentence() -> None:
    hover = plots.confusion_matrix(COUNTS, list(TITLES.values())).data[0].customdata
    assert hover[1][2] == "135 of 148 viral pneumonia images (91.2%)<br>were wrongly predicted as bacterial pneumonia"
    assert "correctly predicted as normal" in hover[0][0]


def test_confusion_of_a_split_without_a_class() -> None:
    figure = plots.confusion_matrix([[7, 1, 0], [0, 0, 0], [0, 1, 7]], list(TITLES.values()))
    assert figure.data[0].customdata[1][0] == "No viral pneumonia images in this split"
    assert np.isfinite(figure.data[0].z).all()
    assert [plain(note.text) for note in figure.layout.annotations if note.y == 1] == ["['0', '–']"] * 3


@pytest.mark.parametrize("dark", [False, True])
def test_confusion_text_stands_out_from_its_cell(dark: bool) -> None:
    for called in range(0, 101):
        figure = plots.confusion_matrix([[called, 100 - called], [0, 1]], ["A", "B"], dark=dark)
        note, cell = figure.layout.annotations[0], mixed(figure.data[0].colorscale, called / 100)
        assert contrast(note.font.color, cell) > 3, f"{called} %"


def test_one_class_alone() -> None:
    assert len(plots.confusion_matrix([[4]], ["Normal"]).layout.annotations) == 1


def test_curves_differ_in_dash_and_marker() -> None:
    lines = plots.learning_curves(HISTORY, best_epoch=2).data
    assert [line.name for line in lines] == ["Training", "Validation"] * 2
    assert len({(line.line.dash, line.marker.symbol) for line in lines}) == 2
    assert [line.showlegend for line in lines] == [True, True, False, False]
    assert lines[1].y.tolist() == [0.4, 0.6, 0.5] and lines[3].y.tolist() == [1.1, 0.9, 1.0]


def test_kept_epoch_is_marked_in_both_panels_and_named() -> None:
    figure = plots.learning_curves(HISTORY, best_epoch=2)
    assert [(shape.x0, shape.xref) for shape in figure.layout.shapes] == [(2, "x"), (2, "x2")]
    assert any("best" in note.text for note in figure.layout.annotations)
    assert not plots.learning_curves(HISTORY).layout.shapes
    assert figure.layout.hovermode == "x unified"


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_curves_of_few_epochs(rows: int) -> None:
    figure = plots.learning_curves(HISTORY.head(rows), best_epoch=1 if rows else None)
    low, high = figure.layout.xaxis.range
    assert low < 1 < high and all(len(line.x) == rows for line in figure.data)


@pytest.mark.parametrize("gone", ["loss", "accuracy", "val_loss", "val_accuracy"])
def test_curves_without_a_column(gone: str) -> None:
    assert len(plots.learning_curves(HISTORY.drop(columns=gone), best_epoch=2).data) == 3


def test_legend_names_training_also_without_accuracy() -> None:
    shown = [line.name for line in plots.learning_curves(HISTORY.drop(columns="accuracy")).data if line.showlegend]
    assert sorted(shown) == ["Training", "Validation"]


def test_curves_without_validation_or_with_gaps() -> None:
    alone = plots.learning_curves(HISTORY[["epoch", "loss", "accuracy"]])
    assert {line.name for line in alone.data} == {"Training"}
    plots.learning_curves(HISTORY.assign(val_loss=np.nan, loss=np.nan))


def test_bars_carry_their_numbers_and_patterns() -> None:
    counts = {"train": {"normal": 1341, "viral": 1345}, "val": {"normal": 8}}
    bars = plots.class_counts(counts, TITLES, split_titles={"train": "Training"}).data
    assert [list(bar.text) for bar in bars] == [["1,341", "8"], ["1,345", "0"], ["0", "0"]]
    assert list(bars[0].y) == ["Training", "val"]
    assert len({bar.marker.pattern.shape for bar in bars}) == 3


def test_probabilities_are_labelled_in_class_order() -> None:
    figure = plots.class_probabilities({"normal": 0.0236, "viral": 0.9764}, TITLES)
    (bars,) = figure.data
    assert list(bars.text) == ["2.4%", "97.6%"] and list(bars.y) == ["Normal", "Viral pneumonia"]
    assert figure.layout.yaxis.autorange == "reversed" and figure.layout.xaxis.range[1] > 1


def test_colours_are_fixed_by_class_and_never_run_out() -> None:
    assert plots.class_colour("viral", 0) == plots.class_colour("viral", 2) == plots.CLASS_COLOURS["viral"]
    further = [plots.class_colour(f"class {place}", place) for place in range(30)]
    assert len(set(further)) >= 4 and not set(further) & set(plots.CLASS_COLOURS.values())


def answers(n: int = 300, classes: int = 3) -> PredictionSet:
    true = np.arange(n) % classes
    return PredictionSet(
        np.arange(n).astype(object), true, synthetic_runs.probabilities(true, 3), synthetic_runs.CLASSES
    )


def lines(figure: go.Figure) -> list[go.Scatter]:
    return [one for one in figure.data if one.showlegend is not False]


@pytest.mark.parametrize("dark", [False, True])
def test_curves_differ_in_dash_and_mark_and_say_their_area(dark: bool) -> None:
    found = answers()
    rocs, recalls = plots.class_curves(found, TITLES)
    for drawn, of in (
        (plots.roc(rocs, dark=dark), curves.auc),
        (plots.precision_recall(recalls, dark=dark), curves.average_precision),
    ):
        shown = lines(drawn)
        assert len({one.line.dash for one in shown}) == 3
        marks = [one.marker.symbol for one in drawn.data if one.mode == "markers"]
        assert len(set(marks)) == 3 and marks == [one.marker.symbol for one in shown]  # the legend shows dash and mark
        for code, one in enumerate(shown):
            value = of(found.true == code, found.probabilities[:, code])
            assert f"{value:.3f}" in one.name and TITLES[found.classes[code]] in one.name


def test_a_class_that_is_not_there_has_no_curve() -> None:
    rocs, recalls = plots.class_curves(answers(classes=2), TITLES)
    assert len(rocs) == len(recalls) == 2
    assert plots.class_curves(answers(classes=1), TITLES) == ([], [])


def test_reliability_carries_its_intervals() -> None:
    found = answers()
    table = calibration.reliability(found.probabilities.max(axis=1), found.correct)
    drawn = plots.reliability({"As it is": table, "After": table})
    first, second = lines(drawn)
    np.testing.assert_allclose(np.asarray(first.y) + np.asarray(first.error_y.array), table["share_high"])
    np.testing.assert_allclose(np.asarray(first.y) - np.asarray(first.error_y.arrayminus), table["share_low"])
    assert first.line.dash != second.line.dash and first.marker.symbol != second.marker.symbol
    assert drawn.layout.shapes[0].type == "line"


def test_histograms_are_shares_of_their_group_and_name_its_size() -> None:
    groups = {"Ill": np.full(10, 0.92), "Well": np.linspace(0, 1, 40)}
    drawn = plots.score_distributions(groups, ("#112233", "#445566"), title="Score", threshold=0.5)
    assert [one.name for one in drawn.data] == ["Ill (10)", "Well (40)"]
    assert max(drawn.data[0].y) == 1 and sum(drawn.data[1].y) == pytest.approx(2)  # each bin has two corners
    assert len({one.fillpattern.shape for one in drawn.data}) == 2
    assert drawn.layout.shapes[0].x0 == 0.5
    plots.score_distributions({"None": np.empty(0)}, ("#112233",), title="Score")


def test_a_forest_stands_missing_intervals_and_narrow_ranges() -> None:
    table = pd.DataFrame(
        {"name": ["a", "b"], "value": [0.9, 0.91], "low": [0.89, np.nan], "high": [0.92, np.nan], "mark": [0, 7], "hover": ["", ""]}
    )  # fmt: skip
    assert plots.forest(table, title="Accuracy").layout.xaxis.tickformat == ".1%"
    assert plots.forest(table.assign(low=0.2), title="Accuracy").layout.xaxis.tickformat == ".0%"
    assert plots.forest(table, title="Loss", share=False).layout.xaxis.tickformat == ".3f"
    assert not plots.forest(table.iloc[:0], title="Accuracy").layout.annotations


def test_names_of_a_forest_stand_above_their_rows_and_fit_a_phone() -> None:
    table = pd.DataFrame(
        {"name": ["<b>a</b>", "x" * 80], "value": [0.9, 0.8], "low": 0.7, "high": 0.95, "mark": 0, "hover": ""}
    )
    drawn = plots.forest(table, title="Accuracy")
    first, second = drawn.layout.annotations
    assert first.text == "&lt;b&gt;a&lt;/b&gt;" and (first.x, first.xref, first.y) == (0, "paper", 0)
    assert len(second.text) <= 52 and second.text.endswith("…")
    bottom, top = drawn.layout.yaxis.range
    assert bottom > 1 and top < -0.5 and drawn.layout.yaxis.showticklabels is False
