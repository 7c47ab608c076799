"""Every figure of one run on one split by name, each with its 95 % interval, and how that was found.

accuracy  macro_f1  balanced_accuracy  macro_auc  macro_ap  brier  log_loss  ece
precision:<class>  recall:<class>  f1:<class>  auc:<class>  ap:<class>     (areas: the class against the rest)
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr_core import wording
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
MEANINGS = {
    "accuracy": "Share of images whose class is right.",
    "macro_f1": "Mean over the classes of F1, which balances what is found against false alarms.",
    "balanced_accuracy": "Mean over the classes of the share that is found.",
    "macro_auc": "How often an image of a class gets a higher probability of it than one of another class, averaged over the "
    "classes: 1 is perfect, 0.5 is chance.",
    "macro_ap": "Precision averaged over all thresholds, then over the classes: 1 is perfect.",
    "ece": "Mean gap between how sure the network is and how often it is right: 0 is perfect.",
    "brier": "Squared distance between the probabilities and the truth: 0 is perfect, 2 the worst.",
    "log_loss": "Minus the logarithm of the probability given to the truth: 0 is perfect; sure and wrong costs most.",
    "recall": "Of the images of a class, how many were called so (for illness: sensitivity).",
    "precision": "Of the images called a class, how many are of it (for illness: positive predictive value).",
    "f1": "Harmonic mean of precision and recall.",
    "auc": "How often an image of the class gets a higher probability of it than another image: 1 is perfect, 0.5 is chance.",
    "ap": "Precision averaged over all thresholds: 1 is perfect.",
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


def parts_of(figure: str) -> tuple[str, ...]:
    """The part of `resampling.PARTS` that a figure belongs to."""
    of = figure.split(":", maxsplit=1)[0].removeprefix("macro_")
    return ("levels",) if of in ("auc", "ap") else ("terms",) if of in SMALLER_IS_BETTER else ("counts",)


def points(answers: Answers, *, parts: Collection[str] = resampling.PARTS) -> dict[str, float]:
    """Figures by name, NaN where not defined, of these `resampling.PARTS`."""
    found: dict[str, float] = {}
    if "counts" in parts:
        found |= _of_counts(answers)
    if "levels" in parts:
        for name, area in (("auc", curves.auc), ("ap", curves.average_precision)):
            for code, label in enumerate(answers.classes):
                found[f"{name}:{label}"] = area(answers.true == code, answers.probabilities[:, code])
            known = [found[f"{name}:{label}"] for label in answers.classes]
            found[f"macro_{name}"] = float(np.nanmean(known)) if np.isfinite(known).any() else float("nan")
    if "terms" in parts:
        found["brier"] = calibration.brier(answers.true, answers.probabilities)
        found["log_loss"] = calibration.log_loss(answers.true, answers.probabilities)
        found["ece"] = calibration.expected_error(answers.confidence, answers.right)
    return found


def _of_counts(answers: Answers) -> dict[str, float]:
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
    return found


@dataclass(frozen=True, eq=False)
class Spread:
    """How figures spread by chance: `drawn` in each resample, `fewest` patients in a class, `how`: PATIENTS or IMAGES.

    Two runs on the same images of the same patients meet the same resamples, so their spreads can be paired.
    """

    drawn: resampling.Drawn
    fewest: int
    how: str


def spread(
    answers: Answers,
    patients: npt.ArrayLike | None,
    *,
    parts: Collection[str] = resampling.PARTS,
    resamples: int = resampling.RESAMPLES,
    seed: int = 0,
) -> Spread:
    """Draw again.

    Args:
        patients: (n,) who is on each image, or None if that is not known: then images are drawn, not patients.
        parts: of `resampling.PARTS`.
    """
    draws = resampling.draws(answers.true, patients, resamples=resamples, seed=seed)
    drawn = resampling.figures(answers, draws, parts=parts)
    return Spread(drawn, draws.fewest, IMAGES if patients is None else PATIENTS)


def card(
    answers: Answers,
    patients: npt.ArrayLike | None,
    *,
    parts: Collection[str] = resampling.PARTS,
    resamples: int = resampling.RESAMPLES,
    seed: int = 0,
) -> Card:
    """Figures with their intervals: Wilson for shares of images, the bootstrap for everything else. Arguments: see `spread`."""
    return of_spread(answers, spread(answers, patients, parts=parts, resamples=resamples, seed=seed), parts)


def of_spread(answers: Answers, how: Spread, parts: Collection[str] = resampling.PARTS) -> Card:
    """The `card` of what was drawn already."""
    found: Card = {}
    for name, value in points(answers, parts=parts).items():
        between = None
        if np.isfinite(value) and len(answers):
            between = resampling.interval(name, how.drawn[name], value, how.fewest)
        found[name] = _figure(value, between, how.how)
    return found | (_shares(answers) if "counts" in parts else {})


def told(one: Figure, *, share: bool = True) -> str:
    """A figure with its 95 % interval: '81.2 % (78.0 to 84.1 %)', or '0.312 (0.290 to 0.334)'."""
    if one.value is None:
        return "–"
    if share:
        return wording.percent(one.value) + (f" ({wording.interval(one.interval)})" if one.interval else "")
    return f"{one.value:.3f}" + (f" ({one.low:.3f} to {one.high:.3f})" if one.interval else "")


def told_apart(one: Figure, *, share: bool = True) -> str:
    """A difference with its 95 % interval: '+2.1 points (-0.4 to +4.6)'."""
    if one.value is None:
        return "–"
    scale, digits, unit = (100, 1, " points") if share else (1, 3, "")
    said = f"{scale * one.value:+.{digits}f}{unit}"
    if one.interval is None:
        return said
    return said + f" ({scale * one.interval[0]:+.{digits}f} to {scale * one.interval[1]:+.{digits}f})"


def is_share(name: str) -> bool:
    """Whether a figure is read in per cent."""
    return name.split(":", maxsplit=1)[0] in ("accuracy", "macro_f1", "balanced_accuracy", "recall", "precision", "f1")


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
