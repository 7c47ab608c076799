"""Metrics of one run on one split by name, each an estimate with its 95 % interval.

accuracy  macro_f1  balanced_accuracy  macro_auc  macro_ap  brier  log_loss  ece
precision:<class>  recall:<class>  f1:<class>  auc:<class>  ap:<class>     (areas: the class against the rest)
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.evaluation import bootstrap, calibration, confusion, curves, image_metadata, intervals, prediction_set
from cxr_core.evaluation.prediction_set import PredictionSet

TITLES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "balanced_accuracy": "Balanced accuracy",
    "macro_auc": "Mean area under ROC",
    "macro_ap": "Mean average precision",
    "ece": "Calibration error",
    "brier": "Brier score",
    "log_loss": "Log loss",
}
PER_CLASS = {
    "recall": "Recall",
    "precision": "Precision",
    "f1": "F1",
    "auc": "Area under ROC",
    "ap": "Average precision",
}
DESCRIPTIONS = {
    "accuracy": "Share of images whose predicted class is the true one.",
    "macro_f1": "Mean over the classes of F1, which balances recall against precision.",
    "balanced_accuracy": "Mean over the classes of recall.",
    "macro_auc": "How often an image of a class gets a higher probability of it than one of another class, averaged over the "
    "classes: 1 is perfect, 0.5 is chance.",
    "macro_ap": "Precision averaged over all thresholds, then over the classes: 1 is perfect.",
    "ece": "Mean gap between the probability of the predicted class and how often it is the true one: 0 is perfect.",
    "brier": "Squared distance between the probabilities and the truth: 0 is perfect, 2 the worst.",
    "log_loss": "Minus the logarithm of the probability of the true class: 0 is perfect; confident and wrong costs most.",
    "recall": "Of the images of a class, the share predicted as it (for illness: sensitivity).",
    "precision": "Of the images predicted as a class, the share that is of it (for illness: positive predictive value).",
    "f1": "Harmonic mean of precision and recall.",
    "auc": "How often an image of the class gets a higher probability of it than another image: 1 is perfect, 0.5 is chance.",
    "ap": "Precision averaged over all thresholds: 1 is perfect.",
}
LOWER_IS_BETTER = ("ece", "brier", "log_loss")
AVERAGES = ("accuracy", "macro_f1", "balanced_accuracy")
WILSON, PATIENTS, IMAGES = "Wilson", "bootstrap of patients", "bootstrap of images"


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval; None where it is not defined. `method`: WILSON, PATIENTS, IMAGES or another's name."""

    value: float | None
    low: float | None
    high: float | None
    method: str

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


Metrics = dict[str, Estimate]


def names(classes: Sequence[str]) -> list[str]:
    """All metrics for these classes."""
    return [*TITLES, *(f"{name}:{label}" for name in PER_CLASS for label in classes)]


def parts_of(name: str) -> tuple[str, ...]:
    """The part of `bootstrap.PARTS` that a metric belongs to."""
    base = name.split(":", maxsplit=1)[0].removeprefix("macro_")
    return ("levels",) if base in ("auc", "ap") else ("terms",) if base in LOWER_IS_BETTER else ("counts",)


def is_percentage(name: str) -> bool:
    """True if a metric is written in per cent."""
    return parts_of(name) == ("counts",)


def values(predictions: PredictionSet, *, parts: Collection[str] = bootstrap.PARTS) -> dict[str, float]:
    """Metrics by name, NaN where not defined, of these `bootstrap.PARTS`."""
    by_name: dict[str, float] = {}
    if "counts" in parts:
        from_matrix = confusion.by_name(predictions.confusion, predictions.classes)
        by_name |= {name: float(value) for name, value in from_matrix.items()}
    if "levels" in parts:
        for metric, area in (("auc", curves.auc), ("ap", curves.average_precision)):
            areas = [
                area(predictions.true == code, predictions.probabilities[:, code])
                for code in range(len(predictions.classes))
            ]
            by_name |= {f"{metric}:{label}": value for label, value in zip(predictions.classes, areas, strict=True)}
            by_name[f"macro_{metric}"] = float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")
    if "terms" in parts:
        by_name["brier"] = calibration.brier(predictions.true, predictions.probabilities)
        by_name["log_loss"] = calibration.log_loss(predictions.true, predictions.probabilities)
        by_name["ece"] = calibration.expected_calibration_error(predictions.confidence, predictions.correct)
    return by_name


@dataclass(frozen=True, eq=False)
class Resampled:
    """Bootstrap replicates of metrics, `fewest` patients in a class, `method`: PATIENTS or IMAGES.

    Two runs on the same images of the same patients meet the same resamples, so their replicates can be paired.
    """

    replicates: bootstrap.Replicates
    fewest: int
    method: str


def resample(
    predictions: PredictionSet,
    patients: npt.ArrayLike | None,
    *,
    parts: Collection[str] = bootstrap.PARTS,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
) -> Resampled:
    """Bootstrap the metrics of these `bootstrap.PARTS`.

    Args:
        patients: (n,) the patient of each image, or None if that is not known: then images are drawn, not patients.
    """
    draws = bootstrap.draws(predictions.true, patients, resamples=resamples, seed=seed)
    replicates = bootstrap.replicates(predictions, draws, parts=parts)
    return Resampled(replicates, draws.fewest, IMAGES if patients is None else PATIENTS)


def estimate(
    predictions: PredictionSet,
    patients: npt.ArrayLike | None,
    *,
    parts: Collection[str] = bootstrap.PARTS,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
) -> Metrics:
    """Metrics with their intervals: Wilson for shares of images, the bootstrap for all else. Arguments: see `resample`."""
    return from_resampled(
        predictions, resample(predictions, patients, parts=parts, resamples=resamples, seed=seed), parts
    )


def from_resampled(
    predictions: PredictionSet, resampled: Resampled, parts: Collection[str] = bootstrap.PARTS
) -> Metrics:
    """The `estimate` of predictions that are resampled already."""
    metrics: Metrics = {}
    for name, value in values(predictions, parts=parts).items():
        interval = None
        if np.isfinite(value):
            interval = bootstrap.interval(name, resampled.replicates[name], value, resampled.fewest)
        metrics[name] = _estimate(value, interval, resampled.method)
    return metrics | (wilson_estimates(predictions) if "counts" in parts else {})


def to_dict(metrics: Metrics) -> dict[str, dict[str, Any]]:
    """Plain values for JSON: value, low, high and `how` the interval was computed."""
    return {
        name: {"value": estimate.value, "low": estimate.low, "high": estimate.high, "how": estimate.method}
        for name, estimate in metrics.items()
    }


def evaluate(table: pd.DataFrame, patients: npt.ArrayLike | None = None) -> dict[str, Any]:
    """The `document` of a predictions table, as `metrics.json` has it for each split.

    Args:
        patients: (n,) the patient of each image, or None if that is not known.
    """
    predictions = prediction_set.from_table(table)
    return document(predictions, estimate(predictions, patients, parts=("counts",)))


def document(predictions: PredictionSet, metrics: Metrics) -> dict[str, Any]:
    """Public metrics of one split, as `evaluate --json` prints them and `metrics.json` stores them.

    `macro_f1` and `balanced_accuracy` average over the classes that have images in the split, each with the same weight: the
    source's own validation split has no viral image, and a class that nobody could recognise must not pull the metric down.
    That is scikit-learn's `f1_score(average="macro", labels=<classes with support>)`; with all classes present, its default.
    `ci95` holds the 95 % intervals; [0, 1] where nothing is known.

    Args:
        metrics: of the same predictions, of the part "counts" at least.

    Returns:
        Plain Python values, safe for JSON. Shares are in [0, 1]. A metric that is not defined is None, never NaN: the recall of
        a class with support 0, the precision of a class that was never predicted, everything without any image.
    """

    def interval(name: str) -> list[float]:
        return list(metrics[name].interval or (0.0, 1.0))

    def by_class(metric: str) -> dict[str, list[float]]:
        return {label: interval(f"{metric}:{label}") for label in predictions.classes}

    return {
        "n": len(predictions),
        **{name: metrics[name].value for name in AVERAGES},
        "per_class": {
            label: {
                **{metric: metrics[f"{metric}:{label}"].value for metric in ("precision", "recall", "f1")},
                "support": int(predictions.support[code]),
            }
            for code, label in enumerate(predictions.classes)
        },
        "confusion": predictions.confusion.tolist(),
        "ci95": {
            **{name: interval(name) for name in AVERAGES},
            **{metric: by_class(metric) for metric in ("recall", "precision", "f1")},
        },
    }


def summary(tables: Mapping[str, pd.DataFrame], data: str) -> dict[str, dict[str, Any]]:
    """Split to `evaluate` of its predictions table; the content of a run's `metrics.json`.

    Args:
        data: the dataset that knows the patients.
    """
    return {
        split: evaluate(table, image_metadata.patients(prediction_set.from_table(table), data))
        for split, table in tables.items()
    }


def _estimate(value: float, interval: intervals.Interval | None, method: str) -> Estimate:
    low, high = interval if interval else (None, None)
    return Estimate(float(value) if np.isfinite(value) else None, low, high, method)


def wilson_estimates(predictions: PredictionSet) -> Metrics:
    """Accuracy, and recall and precision of each class: the shares of images, whose intervals are Wilson's."""
    counts = predictions.confusion
    hits = np.diagonal(counts)

    def share(part: int, whole: int) -> Estimate:
        if not whole:
            return Estimate(None, None, None, WILSON)
        return Estimate(part / whole, *intervals.wilson(part, whole), WILSON)

    metrics = {"accuracy": share(int(hits.sum()), len(predictions))}
    for code, label in enumerate(predictions.classes):
        metrics[f"recall:{label}"] = share(int(hits[code]), int(counts[code].sum()))
        metrics[f"precision:{label}"] = share(int(hits[code]), int(counts[:, code].sum()))
    return metrics
