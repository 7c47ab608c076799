"""Rows of the leaderboard: published ones with intervals of their own, runs, groups as mean and deviation."""

from pathlib import Path

import numpy as np
import pytest

from cxr_core.evaluation import intervals, scorecard, standings, subgroups
from cxr_core.runs import folder as runs
from tests import made_up


def test_published_rows_are_those_of_the_paper_and_of_issue_8() -> None:
    table = standings.published("accuracy", "test").set_index("name")
    assert table["value"].to_dict() == {
        "Custom CNN": 0.5817, "VGG-16": 0.6474, "ResNet-152": 0.6763,
        "ConvNeXt-V2, pretrained": 0.9135, "Ensembles of several networks": 0.907,
    }  # fmt: skip
    for value, low, high in table[["value", "low", "high"]].itertuples(index=False):
        assert (low, high) == pytest.approx(intervals.wilson(round(value * 624), 624))
    assert tuple(table.loc["ConvNeXt-V2, pretrained", ["low", "high"]].round(3)) == (0.889, 0.933)
    macro = standings.published("macro_f1", "test").set_index("name")
    assert macro["value"].to_dict() == {
        "Custom CNN": 0.48, "VGG-16": 0.61, "ResNet-152": 0.64, "ConvNeXt-V2, pretrained": 0.903,
    }  # fmt: skip
    assert macro["low"].isna().all()
    recall = standings.published("recall:viral", "test").set_index("name")["value"]
    assert recall.to_dict() == {"Custom CNN": 0.08, "VGG-16": 0.51, "ResNet-152": 0.44}
    assert len(standings.published("accuracy", "val")) == 3 and standings.published("log_loss", "test").empty


@pytest.fixture
def cards(home: Path) -> list:
    found = []
    for seed, group in ((1, "sweep"), (2, "sweep"), (3, "sweep"), (4, "")):
        splits = {"test": ([f"{n}" for n in range(90)], list(made_up.CLASSES) * 30)}
        run = runs.get(made_up.run(splits, seed=seed, group=group, age=seed))
        quick = standings.quick(run.metrics["test"], "accuracy")
        assert quick is not None
        value, low, high, n = quick
        assert (low, high) == pytest.approx(intervals.wilson(round(value * 90), 90))
        found.append((run, f"run {seed}", {"accuracy": scorecard.Figure(value, low, high, scorecard.WILSON)}, n))
    return found


def test_groups_are_mean_and_standard_deviation_of_runs_alike(cards: list) -> None:
    (row,) = standings.of_groups("accuracy", cards).to_dict("records")
    values = np.array([card["accuracy"].value for _, _, card, _ in cards[:3]])
    assert row["value"] == pytest.approx(values.mean())
    assert row["high"] - row["value"] == pytest.approx(values.std(ddof=1)) == row["value"] - row["low"]
    assert "3 runs" in row["note"]


def test_a_group_is_of_one_model_and_recipe(cards: list, home: Path) -> None:
    splits = {"test": (["1"], ["normal"])}
    for number, how in enumerate(({"model": "vgg16"}, {"recipe": "paper"})):
        run = runs.get(made_up.run(splits, group="sweep", seed=20 + number, age=60, **how))
        cards.append((run, "other", {"accuracy": scorecard.Figure(0.1, 0, 1, "")}, 1))
    (row,) = standings.of_groups("accuracy", cards).to_dict("records")
    assert "3 runs" in row["note"]


def test_ranked_puts_the_best_first(cards: list) -> None:
    parts = [standings.published("accuracy", "test"), standings.of_runs("accuracy", cards)]
    best = standings.ranked(parts)["value"]
    assert best.is_monotonic_decreasing and len(best) == 9
    assert standings.ranked(parts, smaller_is_better=True)["value"].is_monotonic_increasing
    assert standings.ranked([]).empty


def test_a_difference_from_a_published_row_has_newcombes_interval() -> None:
    found = standings.unpaired("accuracy", 0.8, 600, 0.6474, 624)
    assert found.value == pytest.approx(0.8 - 0.6474)
    assert found.interval == pytest.approx(subgroups.newcombe(480, 600, 404, 624))
    assert standings.unpaired("macro_f1", 0.8, 600, 0.61, 624).interval is None


def test_quick_knows_only_what_has_wilsons_interval(cards: list) -> None:
    metrics = cards[0][0].metrics["test"]
    assert standings.quick(metrics, "macro_f1") is None and standings.quick(metrics, "auc:viral") is None
    value, low, high, n = standings.quick(metrics, "recall:viral")
    assert (value, n) == (metrics["per_class"]["viral"]["recall"], 90) and low < value < high
