"""Rows of the leaderboard: published ones with intervals of their own, runs, groups of runs; and the table of all accuracies."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cxr_core.evaluation import intervals, leaderboard, metrics, predictions
from cxr_core.runs import run_store as runs
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run
from cxr_core.runs.status import Status
from tests import synthetic_runs


def test_published_rows_are_those_of_the_paper_and_of_others() -> None:
    table = leaderboard.published_rows("accuracy", "test").set_index("name")
    assert table["value"].to_dict() == {
        "Custom CNN": 0.5817, "VGG-16": 0.6474, "ResNet-152": 0.6763,
        "ConvNeXt-V2, pretrained": 0.9135, "Ensembles of several networks": 0.907,
    }  # fmt: skip
    for value, low, high in table[["value", "low", "high"]].itertuples(index=False):
        assert (low, high) == pytest.approx(intervals.wilson(round(value * 624), 624))
    assert tuple(table.loc["ConvNeXt-V2, pretrained", ["low", "high"]].round(3)) == (0.889, 0.933)
    macro = leaderboard.published_rows("macro_f1", "test").set_index("name")
    assert macro["value"].to_dict() == {
        "Custom CNN": 0.48, "VGG-16": 0.61, "ResNet-152": 0.64, "ConvNeXt-V2, pretrained": 0.903,
    }  # fmt: skip
    assert macro["low"].isna().all()
    recall = leaderboard.published_rows("recall:viral", "test").set_index("name")["value"]
    assert recall.to_dict() == {"Custom CNN": 0.08, "VGG-16": 0.51, "ResNet-152": 0.44}
    assert (
        len(leaderboard.published_rows("accuracy", "val")) == 3 and leaderboard.published_rows("log_loss", "test").empty
    )


@pytest.fixture
def cards(home: Path) -> list:
    found = []
    for seed, group in ((1, "sweep"), (2, "sweep"), (3, "sweep"), (4, "")):
        splits = {"test": ([f"{n}" for n in range(90)], list(synthetic_runs.CLASSES) * 30)}
        run = runs.get(synthetic_runs.run(splits, seed=seed, group=group, age=seed))
        quick = leaderboard.stored_estimate(run.metrics["test"], "accuracy")
        assert quick is not None
        estimate, n = quick
        assert estimate.value is not None and estimate.method == metrics.WILSON
        assert estimate.interval == pytest.approx(intervals.wilson(round(estimate.value * 90), 90))
        found.append((run, f"run {seed}", {"accuracy": estimate}, n))
    return found


def test_a_group_is_the_mean_of_runs_alike_with_its_t_interval(cards: list) -> None:
    (row,) = leaderboard.group_rows("accuracy", cards).to_dict("records")
    values = np.array([card["accuracy"].value for _, _, card, _ in cards[:3]])
    assert row["value"] == pytest.approx(values.mean())
    expected = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (row["low"], row["high"]) == pytest.approx(expected)
    assert row["note"] == "t interval of the mean, 3 runs"


def test_a_group_of_two_runs_shows_their_values_instead_of_an_interval(cards: list) -> None:
    (row,) = leaderboard.group_rows("accuracy", cards[:2]).to_dict("records")
    values = [card["accuracy"].value for _, _, card, _ in cards[:2]]
    assert row["value"] == pytest.approx(np.mean(values)) and np.isnan(row["low"]) and np.isnan(row["high"])
    assert row["note"] == "mean of 2 runs: " + " and ".join(f"{100 * value:.1f} %" for value in values)


def test_a_group_is_of_one_model_and_recipe(cards: list, home: Path) -> None:
    splits = {"test": (["1"], ["normal"])}
    for number, how in enumerate(({"model": "vgg16"}, {"recipe": "paper"})):
        run = runs.get(synthetic_runs.run(splits, group="sweep", seed=20 + number, age=60, **how))
        cards.append((run, "other", {"accuracy": metrics.Estimate(0.1, 0, 1, "")}, 1))
    (row,) = leaderboard.group_rows("accuracy", cards).to_dict("records")
    assert "3 runs" in row["note"]


def test_ranked_puts_the_best_first(cards: list) -> None:
    parts = [leaderboard.published_rows("accuracy", "test"), leaderboard.run_rows("accuracy", cards)]
    best = leaderboard.ranked(parts)["value"]
    assert best.is_monotonic_decreasing and len(best) == 9
    assert leaderboard.ranked(parts, smaller_is_better=True)["value"].is_monotonic_increasing
    assert leaderboard.ranked([]).empty


def test_a_difference_from_a_published_row_has_newcombes_interval() -> None:
    found = leaderboard.unpaired_difference("accuracy", 0.8, 600, 0.6474, 624)
    assert found.value == pytest.approx(0.8 - 0.6474)
    assert found.interval == pytest.approx(intervals.newcombe(480, 600, 404, 624))
    assert leaderboard.unpaired_difference("macro_f1", 0.8, 600, 0.61, 624).interval is None


def test_quick_knows_only_what_has_wilsons_interval(cards: list) -> None:
    stored = cards[0][0].metrics["test"]
    assert (
        leaderboard.stored_estimate(stored, "macro_f1") is None
        and leaderboard.stored_estimate(stored, "auc:viral") is None
    )
    estimate, n = leaderboard.stored_estimate(stored, "recall:viral")
    assert (estimate.value, n) == (stored["per_class"]["viral"]["recall"], 90)
    assert estimate.low < estimate.value < estimate.high


def run(model: str = "custom_cnn", **figures: object) -> Run:
    config = RunConfig(model=model, recipe="tuned", data="kermany", manifest="m", classes=("normal", "viral"))
    return Run("a-run", config, Status(epoch=7, epochs=9), dict(figures))


def evaluated() -> dict[str, object]:
    table = predictions.prediction_table(
        ["a", "b"], ["normal", "viral"], np.array([[0.9, 0.1], [0.8, 0.2]]), ["normal", "viral"]
    )
    return metrics.evaluate(table)


def test_paper_comes_first_and_alone_without_runs() -> None:
    table = leaderboard.accuracy_table([])
    assert table.columns.tolist() == list(leaderboard.ACCURACY_COLUMNS)
    assert table["origin"].tolist() == ["paper"] * 3
    assert table["test"].tolist() == [0.5817, 0.6474, 0.6763]
    assert ((table["test_low"] < table["test"]) & (table["test"] < table["test_high"])).all()
    assert table["epochs"].isna().all()


def test_run_with_test_figures() -> None:
    row = leaderboard.accuracy_table([run(test=evaluated())]).iloc[3]
    assert (row["origin"], row["run"], row["epochs"], row["test"]) == ("run", "a-run", 7, 0.5)
    assert row["test_low"] < 0.5 < row["test_high"]
    assert pd.isna(row["train"]) and pd.isna(row["val"])


def test_run_without_a_test_split_or_of_a_model_gone() -> None:
    row = leaderboard.accuracy_table([run("gone_model", train=evaluated())]).iloc[3]
    assert row["model"] == "gone_model" and row["train"] == 0.5
    assert pd.isna(row["test"]) and pd.isna(row["macro_f1"])


def test_runs_without_predictions_are_left_out() -> None:
    assert len(leaderboard.accuracy_table([run()])) == 3
