"""One question with a threshold: normal against pneumonia, or any classes against the rest.

The score of an image is the sum of its probabilities of the positive classes; at or above the threshold it is called positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist

import numpy as np

from cxr_core.arrays import Flags, Floats
from cxr_core.errors import BadInput, UnknownName
from cxr_core.evaluation import curves
from cxr_core.evaluation.intervals import Share
from cxr_core.evaluation.metrics import Estimate
from cxr_core.evaluation.prediction_set import PredictionSet

NORMAL = "normal"


@dataclass(frozen=True)
class Outcome:
    """Counts of a threshold: true and false positives, false and true negatives."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def sensitivity(self) -> Share:
        return Share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> Share:
        return Share(self.tn, self.tn + self.fp)

    @property
    def ppv(self) -> Share:
        return Share(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> Share:
        return Share(self.tn, self.tn + self.fn)

    @property
    def mirrored(self) -> "Outcome":
        """The same with positive and negative exchanged."""
        return Outcome(self.tn, self.fn, self.fp, self.tp)


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
    """Sensitivity and specificity of a threshold on these images."""
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
    counts = curves.threshold_counts(is_positive, score)
    if not counts.positives:
        raise BadInput("There is no positive image to choose a threshold by. Choose another question or split.")
    enough = counts.true_positives >= least * counts.positives - 1e-9
    return float(counts.thresholds[int(np.argmax(enough))])


def threshold_by_youden(is_positive: Flags, score: Floats) -> float:
    """The threshold with the largest sensitivity + specificity (W. J. Youden, Cancer 3 (1950) 32-35); the highest of equals.

    Raises:
        BadInput: there are no positive or no negative images.
    """
    counts = curves.threshold_counts(is_positive, score)
    if not counts.positives or not counts.negatives:
        raise BadInput(
            "A threshold needs positive and negative images to be chosen by. Choose another question or split."
        )
    gain = counts.true_positives / counts.positives - counts.false_positives / counts.negatives
    return float(counts.thresholds[int(gain.argmax())])


def ppv_at_prevalence(outcome: Outcome, prevalence: float) -> Estimate:
    """Positive predictive value by Bayes' rule where another share of people is ill; NPV: of `outcome.mirrored`, 1 - prevalence.

    Source of the interval: N. D. Mercaldo, K. F. Lau, X. H. Zhou, "Confidence intervals for predictive values with an emphasis
    to case-control studies", Statistics in Medicine 26 (2007) 2170-2183 (logit, with 1/2 added where a count is 0).

    Returns:
        Not defined without positive or negative images, or where nobody is called positive.

    Raises:
        BadInput: the prevalence is not between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise BadInput(f"A prevalence lies between 0 and 1. Received: {prevalence}.")
    sensitivity, specificity = outcome.sensitivity.value, outcome.specificity.value
    if sensitivity is None or specificity is None or not outcome.ppv.of:
        return Estimate(None, None, None, "logit")
    ill_per_well = prevalence / (1 - prevalence)
    odds = float("inf") if specificity == 1 else ill_per_well * sensitivity / (1 - specificity)
    half = 0.5 if 0 in (outcome.tp, outcome.fp, outcome.fn, outcome.tn) else 0.0
    positives, negatives = outcome.tp + outcome.fn + 2 * half, outcome.tn + outcome.fp + 2 * half
    true_positive_rate, spared = (outcome.tp + half) / positives, (outcome.tn + half) / negatives
    middle = log(ill_per_well * true_positive_rate / (1 - spared))
    spread = sqrt((1 - true_positive_rate) / true_positive_rate / positives + spared / (1 - spared) / negatives)
    low, high = (1 / (1 + exp(-(middle + side * NormalDist().inv_cdf(0.975) * spread))) for side in (-1, 1))
    return Estimate(1 - 1 / (1 + odds), low, high, "logit")
