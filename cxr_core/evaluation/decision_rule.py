"""Decision rule of a model: from the probabilities of its network to a class, and to whether it is confident of it.

The temperature, the threshold and the reject threshold are fitted together on the validation images and their perturbed
copies. The confidence is the calibrated probability of the class that the rule gives (C. K. Chow, IEEE Trans. Inf. Theory 16
(1970) 41-46): of the five confidences compared on validation, it answers the most images at half of the error rate, and it does
not make answers confident that only the threshold brings about, which doubled the pneumonias confidently called normal.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr_core import workspace
from cxr_core.arrays import Codes, Flags, Floats
from cxr_core.errors import BadInput
from cxr_core.evaluation import calibration, operating_point
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.formatting import percent

MIN_IMAGES = 50  # validation images; with fewer, what is fitted is chance
MIN_COVERAGE = 0.6
HIGHEST_PROBABILITY = "highest probability"
TEMPERATURES = (0.01, 100.0)  # least and largest of a rule; fitted ones lie within 0.05 and 20


@dataclass(frozen=True)
class DecisionRule:
    """From (…, k) probabilities to answers; applied by `decide`.

    Attributes:
        classes: the k names.
        temperature: divides the logarithms of the probabilities; 1 leaves them as they are.
        positive: the classes whose calibrated probabilities are summed; empty: the most probable class is answered.
        threshold: of that sum, in [0, 1]; at or above it the most probable positive class is answered, below it the most
            probable of the others. None where `positive` is empty.
        reject_threshold: in [0, 1], of the confidence; below it an answer is not confident.
        criterion: how the threshold was chosen, in words.
        target_sensitivity: the share of the positives that it had to find; None if it was chosen otherwise.
        splits: what it was fitted on; empty if nothing was fitted.
        images: of the first of these.
        digest: of their predictions; the rule is void when they change.
        problem: why the saved rule of the run is not this one, in one or more sentences; empty if there is none. Not saved.
    """

    classes: tuple[str, ...]
    temperature: float = 1.0
    positive: tuple[str, ...] = ()
    threshold: float | None = None
    reject_threshold: float = 0.0
    criterion: str = HIGHEST_PROBABILITY
    target_sensitivity: float | None = None
    splits: tuple[str, ...] = ()
    images: int = 0
    digest: str = ""
    problem: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError if a value lies outside its range."""
        if not TEMPERATURES[0] <= self.temperature <= TEMPERATURES[1]:
            raise ValueError(f"A temperature lies between 0.01 and 100. Received: {self.temperature}.")
        if len(set(self.positive)) < len(self.positive):
            raise ValueError(f"A positive class is named once. Received: {self.positive}.")
        if bool(self.positive) != (self.threshold is not None) or not set(self.positive) < set(self.classes):
            raise ValueError(f"A threshold needs positive classes, and others. Received: {self.positive}.")
        if not all(0 <= value <= 1 for value in (self.threshold or 0.0, self.reject_threshold)):
            raise ValueError(f"A threshold lies between 0 and 1. Received: {self.threshold}, {self.reject_threshold}.")

    @property
    def is_calibrated(self) -> bool:
        return self.temperature != 1

    def describe(self, title: Callable[[str], str] = str) -> str:
        """'viral or bacterial from 84.8 % on (finds at least 95 % of them …)', or 'highest probability', with `problem` if any."""
        if self.threshold is None:
            reason = self.problem.split(". ")[0].rstrip(".")
            return f"{HIGHEST_PROBABILITY} ({reason[:1].lower()}{reason[1:]})" if reason else HIGHEST_PROBABILITY
        return f"{' or '.join(map(title, self.positive))} from {percent(self.threshold)} on ({self.criterion})"

    @property
    def notice(self) -> str:
        """`problem`, and what follows from it; empty if there is none."""
        return f"{self.problem.rstrip('.')}. Until then the highest probability decides." if self.problem else ""

    def document(self) -> dict[str, Any]:
        """The file's content, and what scripts are given."""
        values = asdict(self)
        del values["problem"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_document(cls, document: Any) -> "DecisionRule":
        """The rule of a `document`; raises TypeError, KeyError or ValueError if it is none."""
        values: dict[str, Any] = {}
        for name in (field.name for field in fields(cls) if field.name != "problem"):
            value = document[name]
            if not _CHECKS[name](value):
                raise ValueError(f"'{name}' is not of its type or range. Received: {value!r}.")
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    def operating_point(self) -> dict[str, Any] | None:
        """The threshold as version 0.1 gave it to scripts; None without one."""
        if self.threshold is None:
            return None
        return {"positive": list(self.positive), "threshold": self.threshold, "rule": self.criterion}


def _is_share(value: Any) -> bool:
    return workspace.is_number(value) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value)


_CHECKS: dict[str, Callable[[Any], bool]] = {  # of the values of a document, by attribute
    "classes": _is_names,
    "temperature": workspace.is_number,
    "positive": _is_names,
    "threshold": lambda value: value is None or _is_share(value),
    "reject_threshold": _is_share,
    "criterion": _is_text,
    "target_sensitivity": lambda value: value is None or _is_share(value),
    "splits": _is_names,
    "images": _is_count,
    "digest": _is_text,
}


@dataclass(frozen=True, eq=False)
class Decisions:
    """Answers to n images.

    Attributes:
        calibrated: (n, k) probabilities after the temperature.
        predicted: (n,) codes of the classes, given whether confident or not.
        confidence: (n,) calibrated probability of the predicted class.
        confident: (n,) whether it reaches the reject threshold.
    """

    calibrated: Floats
    predicted: Codes
    confidence: Floats
    confident: Flags


def decide(probabilities: npt.ArrayLike, rule: DecisionRule) -> Decisions:
    """Apply a rule to (n, k) probabilities of the network itself, before any temperature."""
    values = np.asarray(probabilities, dtype=np.float64)
    if rule.is_calibrated:
        values = calibration.apply_temperature(values, rule.temperature)
    candidates = values
    if rule.threshold is not None:
        codes = [rule.classes.index(name) for name in rule.positive]
        reached = values[:, codes].sum(axis=1) >= rule.threshold
        candidates = np.where(reached[:, None] == np.isin(np.arange(len(rule.classes)), codes), values, -1.0)
    predicted: Codes = candidates.argmax(axis=1)
    confidence: Floats = values[np.arange(len(values)), predicted]
    return Decisions(values, predicted, confidence, confidence >= rule.reject_threshold)


def decided(predictions: PredictionSet, rule: DecisionRule | None) -> PredictionSet:
    """The same probabilities, each image called what the rule says; None: the most probable class."""
    return predictions if rule is None else predictions.with_assigned(decide(predictions.probabilities, rule).predicted)


def calibrated(predictions: PredictionSet, temperature: float) -> PredictionSet:
    """The same images, called the same, with their probabilities after a temperature; 1 changes nothing."""
    if temperature == 1:
        return predictions
    return predictions.with_probabilities(
        calibration.apply_temperature(predictions.probabilities, temperature)
    ).with_assigned(predictions.predicted)


def fit(
    sets: Sequence[PredictionSet],
    *,
    target_sensitivity: float | None = None,
    positive: Sequence[str] = (),
    threshold: float | None = None,
    criterion: str = "by hand",
) -> DecisionRule:
    """Fit a rule on validation images, and on their perturbed copies if there are any.

    The temperature has the least log loss on all of them together, and the reject threshold is that of
    `fit_reject_threshold` for the answers that the rule gives.

    Args:
        sets: probabilities of the network itself.
        target_sensitivity: in (0, 1]; the threshold is the most specific that finds this share of the positives in each set.
        positive: classes; by default those that are not normal.
        threshold: instead of a target. With neither, or where no class is normal, the most probable class is answered.
        criterion: of the threshold that was given, in words.

    Raises:
        UnknownName: a class that there is not.
        BadInput: there is no positive image, all classes are positive, or a share is out of range.
    """
    classes, several = sets[0].classes, len(sets) > 1
    true = np.concatenate([part.true for part in sets])
    probabilities = np.concatenate([part.probabilities for part in sets])
    rule = DecisionRule(classes, calibration.fit_temperature(true, probabilities))
    positive = tuple(positive) or operating_point.pneumonia_classes(classes)
    if target_sensitivity is not None:
        questions = [
            operating_point.question(calibrated(part, rule.temperature), positive) for part in sets if positive
        ]
        threshold = min(
            (operating_point.threshold_for_sensitivity(*each, target_sensitivity) for each in questions), default=None
        )
        where = "validation images and their perturbed copies" if several else "validation images"
        criterion = f"finds at least {100 * target_sensitivity:g} % of them on {where}"
    if threshold is not None:
        operating_point.question(sets[0], positive)  # raises if it is none
        if not 0 <= threshold <= 1:
            raise BadInput(f"A threshold lies between 0 and 1. Received: {threshold}.")
        rule = replace(
            rule, positive=positive, threshold=threshold, criterion=criterion, target_sensitivity=target_sensitivity
        )
    return replace(rule, reject_threshold=fit_reject_threshold(sets, rule))


def fit_reject_threshold(sets: Sequence[PredictionSet], rule: DecisionRule) -> float:
    """The least confidence from which on, in each of the sets, the answers have at most half of the set's error rate.

    At least MIN_COVERAGE of each set stay answered, even if the errors are not halved then. Source of the idea: Y. Geifman,
    R. El-Yaniv, "Selective classification for deep neural networks", 2017, arXiv 1705.08500.

    Returns:
        In [0, 1]; 0 where there are too few images or no errors to learn from.
    """
    decisions = [decide(part.probabilities, rule) for part in sets]
    wrong = [each.predicted != part.true for each, part in zip(decisions, sets, strict=True)]
    if min(map(len, sets)) < MIN_IMAGES or not np.concatenate(wrong).any():
        return 0.0
    candidates = np.unique(np.concatenate([each.confidence for each in decisions]))
    enough, halved = np.ones(len(candidates), bool), np.ones(len(candidates), bool)
    for each, errors in zip(decisions, wrong, strict=True):
        order = np.argsort(each.confidence)
        first = np.searchsorted(each.confidence[order], candidates)  # the images before it are not answered
        left = len(errors) - first
        errors_left = np.append(np.cumsum(errors[order][::-1])[::-1], 0)[first]
        enough &= left >= MIN_COVERAGE * len(errors)
        halved &= errors_left <= left * errors.mean() / 2
    fits = np.flatnonzero(enough & halved)
    return float(candidates[fits[0] if len(fits) else np.flatnonzero(enough)[-1]])
