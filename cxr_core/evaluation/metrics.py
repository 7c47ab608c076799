"""What a predictions table says about its model: the public figures and the classification report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.evaluation import answers, background, confusion, predictions, scorecard
from cxr_core.evaluation.answers import Answers


def evaluate(table: pd.DataFrame, patients: npt.ArrayLike | None = None) -> dict[str, Any]:
    """The figures of one split that `metrics.json` keeps: the `document` of what the table says.

    Args:
        table: a predictions table.
        patients: (n,) who is on each image, or None if that is not known.
    """
    found = answers.of(table)
    return document(found, scorecard.card(found, patients, parts=("counts",)))


def document(found: Answers, card: scorecard.Card) -> dict[str, Any]:
    """Public figures of one split, as `evaluate --json` prints them and `metrics.json` keeps them.

    `macro_f1` and `balanced_accuracy` average over the classes that have images in the split, each with the same weight:
    the paper's val split has no viral image, and a class that nobody could recognise must not pull the figure down.
    That is scikit-learn's `f1_score(average="macro", labels=<classes with support>)`; with all classes present, its default.
    `ci95` holds the 95 % intervals of the card; [0, 1] where nothing is known.

    Args:
        card: of the same answers, see scorecard.py.

    Returns:
        Plain Python values, safe for JSON. Shares are in [0, 1]. A figure that is not defined is None, never NaN: the recall of
        a class with support 0, the precision of a class that was never predicted, everything without any image.
    """

    def of_class(figure: str) -> dict[str, list[float]]:
        return {name: _between(card[f"{figure}:{name}"]) for name in found.classes}

    averages = ("accuracy", "macro_f1", "balanced_accuracy")
    return {
        "n": len(found),
        **{name: card[name].value for name in averages},
        "per_class": {
            name: {
                **{figure: card[f"{figure}:{name}"].value for figure in ("precision", "recall", "f1")},
                "support": int(found.support[code]),
            }
            for code, name in enumerate(found.classes)
        },
        "confusion": found.confusion.tolist(),
        "ci95": {
            **{name: _between(card[name]) for name in averages},
            **{figure: of_class(figure) for figure in ("recall", "precision", "f1")},
        },
    }


def summary(run_tables: Mapping[str, pd.DataFrame], data: str) -> dict[str, dict[str, Any]]:
    """Split ─► `evaluate` of its predictions table; the content of a run's `metrics.json`.

    Args:
        data: the dataset that knows the patients.
    """
    return {split: evaluate(table, background.patients(answers.of(table), data)) for split, table in run_tables.items()}


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


def _between(figure: scorecard.Figure) -> list[float]:
    return list(figure.interval or (0.0, 1.0))
