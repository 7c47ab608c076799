"""Every figure of one run on one split by name, each with its 95 % interval, and how that was found.

accuracy  macro_f1  balanced_accuracy  macro_auc  macro_ap  brier  log_loss  ece
precision:<class>  recall:<class>  f1:<class>  auc:<class>  ap:<class>     (areas: the class against the rest)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr_core.evaluation import calibration, confusion, curves, intervals, resampling
from cxr_core.evaluation.answers import Answers

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
OF_CLASS = {
    "recall": "Recall",
    "precision": "Precision",
    "f1": "F1",
    "auc": "Area under ROC",
    "ap": "Average precision",
}
SMALLER_IS_BETTER = ("ece", "brier", "log_loss")
WILSON, PATIENTS, IMAGES = "Wilson", "bootstrap of patients", "bootstrap of images"


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; None where it is not defined. `how`: WILSON, PATIENTS or IMAGES."""

    value: float | None
    low: float | None
    high: float | None
    how: str

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


Card = dict[str, Figure]


def names(classes: Sequence[str]) -> list[str]:
    """All figures for these classes."""
    return [*TITLES, *(f"{name}:{label}" for name in OF_CLASS for label in classes)]


def points(answers: Answers, *, scores: bool = True) -> dict[str, float]:
    """All figures by name, NaN where not defined; without `scores` only those of the confusion matrix."""
    counts = answers.confusion
    n = len(answers)
    found = {
        "accuracy": float(np.trace(counts)) / n if n else float("nan"),
        "macro_f1": float(confusion.macro_f1(counts)),
        "balanced_accuracy": float(confusion.balanced_accuracy(counts)),
    }
    for name, values in (
        ("recall", confusion.recall(counts)),
        ("precision", confusion.precision(counts)),
        ("f1", confusion.f1(counts)),
    ):
        found |= {f"{name}:{label}": float(values[code]) for code, label in enumerate(answers.classes)}
    if not scores:
        return found
    for name, area in (("auc", curves.auc), ("ap", curves.average_precision)):
        for code, label in enumerate(answers.classes):
            found[f"{name}:{label}"] = area(answers.true == code, answers.probabilities[:, code])
        known = [found[f"{name}:{label}"] for label in answers.classes]
        found[f"macro_{name}"] = float(np.nanmean(known)) if np.isfinite(known).any() else float("nan")
    found["brier"] = calibration.brier(answers.true, answers.probabilities)
    found["log_loss"] = calibration.log_loss(answers.true, answers.probabilities)
    found["ece"] = calibration.expected_error(answers.probabilities.max(axis=1), answers.right)
    return found


def card(
    answers: Answers,
    patients: npt.ArrayLike | None,
    *,
    scores: bool = True,
    resamples: int = resampling.RESAMPLES,
    seed: int = 0,
) -> Card:
    """All figures with their intervals: Wilson for shares of images, the bootstrap for everything else.

    Args:
        patients: (n,) who is on each image, or None if that is not known: then images are drawn, not patients.
        scores: also those that need more than the confusion matrix.
    """
    exact = points(answers, scores=scores)
    draws = resampling.draws(answers.true, patients, resamples=resamples, seed=seed)
    drawn = resampling.figures(answers, draws, scores=scores)
    how = IMAGES if patients is None else PATIENTS
    found: Card = {}
    for name, value in exact.items():
        between = (
            resampling.interval(name, drawn[name], value, draws.fewest) if np.isfinite(value) and len(answers) else None
        )
        found[name] = _figure(value, between, how)
    return found | _shares(answers)


def document(card_: Card) -> dict[str, Any]:
    """The card as plain values for JSON."""
    return {name: asdict(figure) for name, figure in card_.items()}


def _figure(value: float, between: intervals.Interval | None, how: str) -> Figure:
    low, high = between if between else (None, None)
    return Figure(float(value) if np.isfinite(value) else None, low, high, how)


def _shares(answers: Answers) -> Card:
    counts = answers.confusion
    hits = np.diagonal(counts)

    def share(part: int, whole: int) -> Figure:
        return _figure(
            part / whole if whole else float("nan"), intervals.wilson(part, whole) if whole else None, WILSON
        )

    found = {"accuracy": share(int(hits.sum()), len(answers))}
    for code, label in enumerate(answers.classes):
        found[f"recall:{label}"] = share(int(hits[code]), int(counts[code].sum()))
        found[f"precision:{label}"] = share(int(hits[code]), int(counts[:, code].sum()))
    return found
