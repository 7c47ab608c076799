"""Metrics of what a person is shown, counted image by image."""

import numpy as np
import pytest

from cxr_core.evaluation import decision_metrics, intervals
from cxr_core.evaluation.decision_rule import DecisionRule, decide, fit
from cxr_core.evaluation.prediction_set import PredictionSet
from tests import synthetic_runs


def answers(classes: tuple[str, ...] = synthetic_runs.CLASSES) -> PredictionSet:
    true = np.random.default_rng(5).integers(0, 3, 500)
    return PredictionSet(np.arange(500).astype(object), true, synthetic_runs.probabilities(true, 3, seed=5), classes)


def test_every_count_is_that_of_the_images_one_by_one() -> None:
    found = answers()
    rule = fit([found], target_sensitivity=0.9)
    given = decide(found.probabilities, rule)
    images = [
        {"ill": true > 0, "called_ill": code > 0, "correct": true == code, "confident": sure}
        for true, code, sure in zip(
            found.true.tolist(), given.predicted.tolist(), given.confident.tolist(), strict=True
        )
    ]
    sure = [image for image in images if image["confident"]]
    ill, well = ([image for image in images if image["ill"] == so] for so in (True, False))
    expected = {
        "coverage": (len(sure), 500),
        "accuracy_answered": (sum(image["correct"] for image in sure), len(sure)),
        "accuracy_all": (sum(image["correct"] for image in images), 500),
        "sensitivity": (sum(image["called_ill"] for image in ill), len(ill)),
        "specificity": (sum(not image["called_ill"] for image in well), len(well)),
        "sensitivity_answered": (
            sum(image["called_ill"] for image in ill if image["confident"]), sum(image["confident"] for image in ill),
        ),
        "specificity_answered": (
            sum(not image["called_ill"] for image in well if image["confident"]), sum(image["confident"] for image in well),
        ),
        "sensitivity_confident": (sum(image["called_ill"] and image["confident"] for image in ill), len(ill)),
        "specificity_confident": (sum(not image["called_ill"] and image["confident"] for image in well), len(well)),
    }  # fmt: skip
    assert decision_metrics.count(found, rule) == expected and set(expected) == set(decision_metrics.TITLES)
    assert len({part for part, _ in expected.values()}) >= 7  # or the test would not tell them apart
    document = decision_metrics.document(found, rule)
    assert document["n"] == 500 and document["rule"]["threshold"] == rule.threshold
    for name, (part, whole) in expected.items():
        one = document[name]
        assert (one["value"], one["count"], one["of"]) == (pytest.approx(part / whole), part, whole)
        assert one["ci95"] == list(intervals.wilson(part, whole))


def test_ill_is_what_is_not_normal_and_nothing_is_made_up_where_no_class_is() -> None:
    plain = decision_metrics.count(answers(), DecisionRule(synthetic_runs.CLASSES))
    assert plain["sensitivity"][1] == int((answers().true > 0).sum())
    nobody = decision_metrics.document(answers(("a", "b", "c")), DecisionRule(("a", "b", "c")))
    assert nobody["sensitivity"] == {"value": None, "ci95": [0.0, 1.0], "count": 0, "of": 0}
    assert nobody["specificity_confident"]["value"] is None and nobody["accuracy_all"]["value"] is not None
