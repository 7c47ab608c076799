"""All runs in one table, beside the paper's."""

from collections.abc import Sequence

import pandas as pd

from cxr_core.evaluation import paper
from cxr_core.models import catalogue
from cxr_core.runs.folder import Run

SPLITS = ("train", "test", "val")  # the order of the paper's Table 4.1
COLUMNS = (
    "model", "origin", "data", "recipe", "epochs",
    "train", "test", "test_low", "test_high", "val", "macro_f1", "run",
)  # fmt: skip


def leaderboard(runs: Sequence[Run]) -> pd.DataFrame:
    """Accuracies in [0, 1] of the paper's models, then of `runs` that have predictions, in their order.

    Returns:
        COLUMNS; `origin` is "paper" or "run", `test_low` and `test_high` the 95 % interval of the test accuracy,
        `macro_f1` that of the test split; NaN where there is no such figure.
    """
    rows = [_published(model) for model in paper.ACCURACY]
    rows += [_row(run) for run in runs if run.usable]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"epochs": "Int64"})


def _published(model: str) -> dict[str, object]:
    low, high = paper.accuracy_interval(model, "test")
    return {
        "model": catalogue.title(model),
        "origin": "paper",
        "data": "paper's, official split",
        "recipe": "paper",
        **paper.ACCURACY[model],
        "test_low": low,
        "test_high": high,
        "macro_f1": paper.MACRO_F1[model],
        "run": "",
    }


def _row(run: Run) -> dict[str, object]:
    test = run.metrics.get("test")
    low, high = test["ci95"]["accuracy"] if test else (None, None)
    return {
        "model": catalogue.title(run.config.model),
        "origin": "run",
        "data": run.config.data,
        "recipe": run.config.recipe,
        "epochs": run.status.epoch,
        **{split: run.metrics[split]["accuracy"] if split in run.metrics else None for split in SPLITS},
        "test_low": low,
        "test_high": high,
        "macro_f1": test["macro_f1"] if test else None,
        "run": run.id,
    }
