"""One question with a threshold: normal against pneumonia, or any classes against the rest.

The score of an image is the sum of its probabilities of the positive classes; at or above the threshold it is called positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isnan, log, sqrt
from statistics import NormalDist

import numpy as np

from cxr_core.arrays import Flags, Floats
from cxr_core.errors import BadInput, UnknownName
from cxr_core.evaluation import curves, intervals
from cxr_core.evaluation.intervals import Interval
from cxr_core.evaluation.prediction_set import PredictionSet

NORMAL = "normal"


@dataclass(frozen=True)
class Outcome:
    """Counts of a threshold: true and false positives, false and true negatives; shares with 95 % Wilson intervals.

    A share of nothing is None.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def sensitivity(self) -> float | None:
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        return _share(self.tn, self.tn + self.fp)

    @property
    def ppv(self) -> float | None:
        return _share(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> float | None:
        return _share(self.tn, self.tn + self.fn)

    @property
    def intervals(self) -> dict[str, Interval]:
        """By the names of the shares; (0, 1) for a share of nothing."""
        return {
            "sensitivity": intervals.wilson(self.tp, self.tp + self.fn),
            "specificity": intervals.wilson(self.tn, self.tn + self.fp),
            "ppv": intervals.wilson(self.tp, self.tp + self.fp),
            "npv": intervals.wilson(self.tn, self.tn + self.fn),
        }


def question(answers: PredictionSet, positive: Sequence[str]) -> tuple[Flags, Floats]:
    """(n,) which images are positive, and (n,) the score of each.

    Raises:
        UnknownName: a class that the run does not know.
        BadInput: no class is positive, or all are.
    """
    for name in positive:
        if name not in answers.classes:
            raise UnknownName("class", name, answers.classes)
    codes = [answers.code(name) for name in dict.fromkeys(positive)]
    if not 0 < len(codes) < len(answers.classes):
        raise BadInput(
            "A question needs at least one positive class and one that is not. Choose fewer or more classes."
        )
    return np.isin(answers.true, codes), answers.probabilities[:, codes].sum(axis=1)


def outcome_at(is_positive: Flags, score: Floats, threshold: float) -> Outcome:
    """What a threshold gives on these images."""
    called = score >= threshold
    tp, fp = int((called & is_positive).sum()), int((called & ~is_positive).sum())
    return Outcome(tp, fp, int(is_positive.sum()) - tp, int((~is_positive).sum()) - fp)


def pneumonia_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that are not normal; empty where no class is, or nothing else."""
    return tuple(name for name in classes if name != NORMAL) if NORMAL in classes else ()


def threshold_for_sensitivity(is_positive: Flags, score: Floats, least: float) -> float:
    """The highest threshold that finds at least this share of the positives: the most specific of those that do.

    Raises:
        BadInput: there is no positive image, or the share is not in (0, 1].
    """
    if not 0 < least <= 1:
        raise BadInput(f"The sensitivity asked for is above 0 and at most 1. Received: {least}.")
    found = curves.threshold_counts(is_positive, score)
    if not found.positives:
        raise BadInput("There is no positive image to choose a threshold by. Choose another question or split.")
    enough = found.true_positives >= least * found.positives - 1e-9
    return float(found.thresholds[int(np.argmax(enough))])


def threshold_by_youden(is_positive: Flags, score: Floats) -> float:
    """The threshold with the largest sensitivity + specificity (W. J. Youden, Cancer 3 (1950) 32-35); the highest of equals.

    Raises:
        BadInput: there are no positive or no negative images.
    """
    found = curves.threshold_counts(is_positive, score)
    if not found.positives or not found.negatives:
        raise BadInput(
            "A threshold needs positive and negative images to be chosen by. Choose another question or split."
        )
    gain = found.true_positives / found.positives - found.false_positives / found.negatives
    return float(found.thresholds[int(gain.argmax())])


@dataclass(frozen=True)
class Adjusted:
    """Predictive values where another share of people is ill, None if nobody is called so; 95 % intervals, (0, 1) then."""

    ppv: float | None
    npv: float | None
    ppv_interval: Interval
    npv_interval: Interval


def adjusted_for_prevalence(outcome: Outcome, prevalence: float) -> Adjusted | None:
    """Bayes' rule with a prevalence of one's own; None without positives or negatives.

    Source of the intervals: N. D. Mercaldo, K. F. Lau, X. H. Zhou, "Confidence intervals for predictive values with an emphasis
    to case-control studies", Statistics in Medicine 26 (2007) 2170-2183 (logit, with 1/2 added where a count is 0).

    Raises:
        BadInput: the prevalence is not between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise BadInput(f"A prevalence lies between 0 and 1. Received: {prevalence}.")
    sens, spec = outcome.sensitivity, outcome.specificity
    if sens is None or spec is None:
        return None
    ppv, npv = _bayes(sens, spec, prevalence)
    half = 0.5 if 0 in (outcome.tp, outcome.fp, outcome.fn, outcome.tn) else 0.0
    positives, negatives = outcome.tp + outcome.fn + 2 * half, outcome.tn + outcome.fp + 2 * half
    sens, spec = (outcome.tp + half) / positives, (outcome.tn + half) / negatives
    spread_ppv = sqrt((1 - sens) / sens / positives + spec / (1 - spec) / negatives)
    spread_npv = sqrt(sens / (1 - sens) / positives + (1 - spec) / spec / negatives)
    centre_ppv, centre_npv = _bayes(sens, spec, prevalence)
    return Adjusted(
        None if isnan(ppv) else ppv,
        None if isnan(npv) else npv,
        (0.0, 1.0) if isnan(ppv) else _logit(centre_ppv, spread_ppv),
        (0.0, 1.0) if isnan(npv) else _logit(centre_npv, spread_npv),
    )


def _bayes(sens: float, spec: float, prevalence: float) -> tuple[float, float]:
    called = sens * prevalence + (1 - spec) * (1 - prevalence)
    passed = spec * (1 - prevalence) + (1 - sens) * prevalence
    return (
        sens * prevalence / called if called else float("nan"),
        spec * (1 - prevalence) / passed if passed else float("nan"),
    )


def _logit(share: float, spread: float) -> Interval:
    z = NormalDist().inv_cdf(0.975)
    middle = log(share / (1 - share))
    return 1 / (1 + exp(-(middle - z * spread))), 1 / (1 + exp(-(middle + z * spread)))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
