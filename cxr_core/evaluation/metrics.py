"""What a predictions table says about its model: the public figures and the classification report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr_core.evaluation import confusion, intervals, predictions


def evaluate(table: pd.DataFrame) -> dict[str, Any]:
    """All figures of one split, as `evaluate --json` prints them and `metrics.json` keeps them.

    `macro_f1` and `balanced_accuracy` average over the classes that have images in the split, each with the same weight:
    the paper's val split has no viral image, and a class that nobody could recognise must not pull the figure down.
    That is scikit-learn's `f1_score(average="macro", labels=<classes with support>)`; with all classes present, its default.
    `ci95` holds 95 % intervals: Wilson for accuracy, recall (of its support) and precision (of the images called so),
    stratified bootstrap for the two averages (see intervals.py).

    Args:
        table: a predictions table.

    Returns:
        Plain Python values, safe for JSON. Shares are in [0, 1]. A figure that is not defined is None, never NaN: the recall of
        a class with support 0, the precision of a class that was never predicted, everything without any image.
    """
    names = predictions.classes(table)
    true, predicted = predictions.true_codes(table), predictions.predicted_codes(table)
    counts = confusion.matrix(true, predicted, len(names))
    n, hits = int(counts.sum()), np.diagonal(counts).tolist()
    support, called = counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist()
    columns = zip(
        confusion.precision(counts).tolist(),
        confusion.recall(counts).tolist(),
        confusion.f1(counts).tolist(),
        strict=True,
    )
    averages = intervals.bootstrap(true, predicted, len(names))
    return {
        "n": n,
        "accuracy": sum(hits) / n if n else None,
        "macro_f1": _plain(confusion.macro_f1(counts)),
        "balanced_accuracy": _plain(confusion.balanced_accuracy(counts)),
        "per_class": {
            name: {"precision": _plain(p), "recall": _plain(r), "f1": _plain(f), "support": support[code]}
            for code, (name, (p, r, f)) in enumerate(zip(names, columns, strict=True))
        },
        "confusion": counts.tolist(),
        "ci95": {
            "accuracy": list(intervals.wilson(sum(hits), n)),
            "macro_f1": list(averages["macro_f1"]),
            "balanced_accuracy": list(averages["balanced_accuracy"]),
            "recall": {name: list(intervals.wilson(hits[c], support[c])) for c, name in enumerate(names)},
            "precision": {name: list(intervals.wilson(hits[c], called[c])) for c, name in enumerate(names)},
        },
    }


def summary(run_tables: dict[str, pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """Split ─► `evaluate` of its predictions table; the content of a run's `metrics.json`."""
    return {split: evaluate(table) for split, table in run_tables.items()}


def report(table: pd.DataFrame) -> pd.DataFrame:
    """The classification report, laid out as scikit-learn's and the paper's figures 4.1 to 4.17.

    One row per class, then `accuracy` (the share stands under f1-score, as there), `macro avg` and `weighted avg`;
    columns precision, recall, f1-score (float64 in [0, 1]) and support (int64). Two readings differ from scikit-learn's print:
    what is not defined is NaN where that prints 0.00, and `macro avg` leaves out classes with support 0, so that it agrees
    with `evaluate`. In both averages the precision of a class that was never predicted counts as 0, as there.
    """
    names = predictions.classes(table)
    return report_of(
        names, confusion.matrix(predictions.true_codes(table), predictions.predicted_codes(table), len(names))
    )


def report_of(names: Sequence[str], counts: confusion.Counts) -> pd.DataFrame:
    """The `report` of a confusion matrix, int (k, k), of these k classes."""
    support = counts.sum(axis=1)
    n = int(support.sum())
    columns = {
        "precision": confusion.precision(counts),
        "recall": confusion.recall(counts),
        "f1-score": confusion.f1(counts),
    }
    body = pd.DataFrame({**columns, "support": support}, index=pd.Index(list(names), dtype="str"))
    accuracy = float(np.trace(counts)) / n if n else np.nan
    macro = {name: float(confusion.over_supported(values, counts)) for name, values in columns.items()}
    weighted = {name: float(np.nan_to_num(values) @ support) / n if n else np.nan for name, values in columns.items()}
    foot = pd.DataFrame(
        [{"precision": np.nan, "recall": np.nan, "f1-score": accuracy}, macro, weighted],
        index=pd.Index(["accuracy", "macro avg", "weighted avg"], dtype="str"),
    ).assign(support=n)
    return pd.concat([body, foot])


def _plain(value: float | confusion.Floats) -> float | None:
    return None if np.isnan(value) else float(value)
