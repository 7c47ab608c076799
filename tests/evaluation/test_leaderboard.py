"""Runs stand beside the paper's models in one table."""

import numpy as np
import pandas as pd

from cxr_core.evaluation import metrics, predictions
from cxr_core.evaluation.leaderboard import COLUMNS, leaderboard
from cxr_core.runs.config import RunConfig
from cxr_core.runs.folder import Run
from cxr_core.runs.status import Status


def run(model: str = "custom_cnn", **figures: object) -> Run:
    config = RunConfig(model=model, recipe="tuned", data="kermany", manifest="m", classes=("normal", "viral"))
    return Run("a-run", config, Status(epoch=7, epochs=9), dict(figures))


def evaluated() -> dict[str, object]:
    table = predictions.make(["a", "b"], ["normal", "viral"], np.array([[0.9, 0.1], [0.8, 0.2]]), ["normal", "viral"])
    return metrics.evaluate(table)


def test_paper_comes_first_and_alone_without_runs() -> None:
    table = leaderboard([])
    assert table.columns.tolist() == list(COLUMNS)
    assert table["origin"].tolist() == ["paper"] * 3
    assert table["test"].tolist() == [0.5817, 0.6474, 0.6763]
    assert ((table["test_low"] < table["test"]) & (table["test"] < table["test_high"])).all()
    assert table["epochs"].isna().all()


def test_run_with_test_figures() -> None:
    row = leaderboard([run(test=evaluated())]).iloc[3]
    assert (row["origin"], row["run"], row["epochs"], row["test"]) == ("run", "a-run", 7, 0.5)
    assert row["test_low"] < 0.5 < row["test_high"]
    assert pd.isna(row["train"]) and pd.isna(row["val"])


def test_run_without_a_test_split_or_of_a_model_gone() -> None:
    row = leaderboard([run("gone_model", train=evaluated())]).iloc[3]
    assert row["model"] == "gone_model" and row["train"] == 0.5
    assert pd.isna(row["test"]) and pd.isna(row["macro_f1"])


def test_runs_without_predictions_are_left_out() -> None:
    assert len(leaderboard([run()])) == 3
