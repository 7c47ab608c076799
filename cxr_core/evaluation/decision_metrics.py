"""Metrics of what a person is shown: how many images get a confident answer, and how many of those answers are correct.

Every metric is a share of images with its 95 % Wilson interval.

    coverage              answered confidently, of all images
    accuracy_answered     correct, of those answered confidently
    accuracy_all          correct, of all images, each called what the decision rule says
    sensitivity           called ill, of all images that are ill
    specificity           called not ill, of all images that are not
    …_answered            the same, of those answered confidently
    …_confident           called so confidently, of all images that are so: those without a confident answer count as not found

"Ill" are the positive classes of the rule, or, where it has none, the classes that are not normal.
"""

from typing import Any

import numpy as np

from cxr_core.evaluation import operating_point
from cxr_core.evaluation.decision_rule import DecisionRule, decide
from cxr_core.evaluation.intervals import Share
from cxr_core.evaluation.prediction_set import PredictionSet

TITLES = {
    "coverage": "Answered confidently",
    "accuracy_answered": "Accuracy among these",
    "accuracy_all": "Accuracy, all images called",
    "sensitivity": "Sensitivity, all called",
    "specificity": "Specificity, all called",
    "sensitivity_answered": "Sensitivity among the confident",
    "specificity_answered": "Specificity among the confident",
    "sensitivity_confident": "Confidently called ill, of all ill",
    "specificity_confident": "Confidently called not ill, of all others",
}


def count(predictions: PredictionSet, rule: DecisionRule) -> dict[str, Share]:
    """The counts of each of TITLES on images with their true classes; 0 of 0 where nothing is ill or nobody could say.

    Args:
        predictions: probabilities of the network itself.
    """
    decisions = decide(predictions.probabilities, rule)
    confident, correct = decisions.confident, decisions.predicted == predictions.true
    codes = [predictions.code(name) for name in rule.positive or operating_point.pneumonia_classes(predictions.classes)]
    is_ill, called_ill = np.isin(predictions.true, codes), np.isin(decisions.predicted, codes)
    has_positive = bool(codes)

    def share(part: np.ndarray, whole: np.ndarray) -> Share:
        return Share(int((part & whole).sum()), int(whole.sum()))

    counts = {
        "coverage": share(confident, np.ones(len(predictions), bool)),
        "accuracy_answered": share(correct, confident),
        "accuracy_all": share(correct, np.ones(len(predictions), bool)),
    }
    for name, is_so, called_so in (("sensitivity", is_ill, called_ill), ("specificity", ~is_ill, ~called_ill)):
        counts[name] = share(called_so, is_so & has_positive)
        counts[f"{name}_answered"] = share(called_so, is_so & has_positive & confident)
        counts[f"{name}_confident"] = share(called_so & confident, is_so & has_positive)
    return counts


def document(predictions: PredictionSet, rule: DecisionRule) -> dict[str, Any]:
    """`decision` of `evaluate --json`: each metric's value (None: not defined), interval and counts, and the rule."""
    shares = {
        name: {"value": share.value, "ci95": list(share.interval), "count": share.images, "of": share.of}
        for name, share in count(predictions, rule).items()
    }
    return {**shares, "n": len(predictions), "rule": rule.document()}
