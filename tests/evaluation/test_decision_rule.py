"""The decision rule: one pure function from probabilities to answers, and how its three numbers are fitted together."""

from dataclasses import replace

import numpy as np
import pytest

from cxr_core.errors import BadInput, UnknownName
from cxr_core.evaluation import calibration
from cxr_core.evaluation.decision_rule import (
    HIGHEST_PROBABILITY,
    MIN_COVERAGE,
    MIN_IMAGES,
    DecisionRule,
    decide,
    decided,
    fit,
    fit_reject_threshold,
)
from cxr_core.evaluation.prediction_set import PredictionSet
from tests import synthetic_runs

ILL = ("viral", "bacterial")


def answers(count: int = 800, *, seed: int = 0, skill: float = 1.6) -> PredictionSet:
    true = np.random.default_rng(seed).integers(0, 3, count)
    given = synthetic_runs.probabilities(true, 3, skill=skill, seed=seed)
    return PredictionSet(np.arange(count).astype(object), true, given, synthetic_runs.CLASSES)


def rule(**values: object) -> DecisionRule:
    return replace(DecisionRule(synthetic_runs.CLASSES), **values)  # type: ignore[arg-type]


def test_without_a_threshold_the_most_probable_class_is_answered_with_its_calibrated_probability() -> None:
    found = answers()
    plain = decide(found.probabilities, rule())
    assert (plain.calibrated == found.probabilities).all() and plain.confident.all()
    assert (plain.predicted == found.probabilities.argmax(axis=1)).all()
    calm = decide(found.probabilities, rule(temperature=2.0, reject_threshold=0.6))
    assert (calm.predicted == plain.predicted).all()
    np.testing.assert_allclose(calm.calibrated, calibration.apply_temperature(found.probabilities, 2.0))
    assert (calm.confidence == calm.calibrated.max(axis=1)).all()
    assert (calm.confident == (calm.confidence >= 0.6)).all() and 0 < calm.confident.sum() < len(found)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.8, 1.0])
def test_a_threshold_decides_the_side_and_the_most_probable_class_there_is_answered(threshold: float) -> None:
    found = answers()
    given = decide(found.probabilities, rule(temperature=1.5, positive=ILL, threshold=threshold, reject_threshold=0.5))
    score = given.calibrated[:, 1:].sum(axis=1)
    assert ((given.predicted > 0) == (score >= threshold)).all()
    ill = given.predicted > 0
    assert (given.predicted[ill] == found.probabilities[ill, 1:].argmax(axis=1) + 1).all()
    assert (given.confidence == given.calibrated[np.arange(len(found)), given.predicted]).all()
    assert (given.confident == (given.confidence >= 0.5)).all()


def test_each_image_is_answered_by_itself() -> None:
    found = answers(60)
    how = rule(temperature=0.7, positive=ILL, threshold=0.8, reject_threshold=0.6)
    together = decide(found.probabilities, how)
    alone = [decide(row[None], how) for row in found.probabilities]
    assert [int(one.predicted[0]) for one in alone] == together.predicted.tolist()
    assert [bool(one.confident[0]) for one in alone] == together.confident.tolist()
    assert not len(decide(np.empty((0, 3)), how).predicted)


def test_decided_answers_keep_the_probabilities_of_the_network() -> None:
    found, how = answers(), rule(temperature=2.0, positive=ILL, threshold=0.99)
    called = decided(found, how)
    assert (called.probabilities == found.probabilities).all()
    assert (called.predicted == decide(found.probabilities, how).predicted).all()
    assert (called.predicted != found.predicted).any() and decided(found, None) is found


@pytest.mark.parametrize("several", [False, True])
def test_the_three_numbers_are_fitted_together(several: bool) -> None:
    sets = [answers(), answers(skill=1.2, seed=3)][: 1 + several]
    found = fit(sets, target_sensitivity=0.9)
    true = np.concatenate([one.true for one in sets])
    assert found.temperature == calibration.fit_temperature(true, np.concatenate([one.probabilities for one in sets]))
    assert found.positive == ILL and found.target_sensitivity == 0.9 and ("perturbed" in found.criterion) == several

    def sensitivity(threshold: float) -> float:
        how = replace(found, threshold=threshold)
        return min((decided(one, how).predicted[one.true > 0] > 0).mean() for one in sets)

    assert found.threshold is not None
    assert sensitivity(found.threshold) >= 0.9 > sensitivity(found.threshold + 1e-9)
    assert found.reject_threshold == fit_reject_threshold(sets, found) > 0


def test_the_reject_threshold_is_that_of_the_answers_that_the_rule_gives() -> None:
    found = answers(skill=1.2)
    plain, tuned = fit([found]), fit([found], target_sensitivity=0.99)
    assert plain.criterion == HIGHEST_PROBABILITY and plain.threshold is None
    assert plain.temperature == tuned.temperature and plain.reject_threshold != tuned.reject_threshold


def test_no_threshold_without_a_normal_class_unless_the_positives_are_named() -> None:
    found = replace(answers(), classes=("a", "b", "c"))
    assert fit([found], target_sensitivity=0.9).threshold is None
    assert fit([found], target_sensitivity=0.9, positive=["a"]).positive == ("a",)
    with pytest.raises(UnknownName):
        fit([found], target_sensitivity=0.9, positive=["d"])


def test_a_threshold_by_hand_stays_as_it_is() -> None:
    found = fit([answers()], threshold=0.4, positive=["bacterial"])
    assert (found.threshold, found.positive, found.criterion) == (0.4, ("bacterial",), "by hand")
    assert found.target_sensitivity is None and "bacterial from 40.0 % on (by hand)" in found.describe()


def coverage_and_error(found: PredictionSet, how: DecisionRule, least: float) -> tuple[float, float]:
    given = decide(found.probabilities, replace(how, reject_threshold=least))
    wrong = given.predicted != found.true
    return float(given.confident.mean()), float(wrong[given.confident].mean())


@pytest.mark.parametrize("seed", range(4))
def test_confident_answers_have_at_most_half_of_the_errors_in_each_set_and_no_lower_threshold_would_do(
    seed: int,
) -> None:
    sets = [answers(seed=seed, skill=2.4), answers(seed=seed + 10, skill=2.1)]
    how = rule(temperature=1.5, positive=ILL, threshold=0.6)
    least = fit_reject_threshold(sets, how)
    errors = [float((decided(one, how).predicted != one.true).mean()) for one in sets]

    def fits(candidate: float) -> bool:
        given = [coverage_and_error(one, how, candidate) for one in sets]
        return all(error <= whole / 2 for (_, error), whole in zip(given, errors, strict=True))

    assert fits(least)
    assert min(coverage_and_error(one, how, least)[0] for one in sets) >= MIN_COVERAGE
    confidences = np.unique(np.concatenate([decide(one.probabilities, how).confidence for one in sets]))
    assert not any(fits(candidate) for candidate in confidences[confidences < least])


def test_where_halving_would_leave_too_few_answers_enough_are_left() -> None:
    true = np.arange(200) % 2  # the surest are wrong as often as the others
    given = np.where(np.arange(200)[:, None] % 4 < 2, [[0.6, 0.4]], [[0.4, 0.6]]) + np.linspace(0, 0.01, 200)[:, None]
    found = PredictionSet(np.arange(200).astype(object), true, given / given.sum(axis=1, keepdims=True), ("a", "b"))
    how = DecisionRule(("a", "b"))
    covered, _ = coverage_and_error(found, how, fit_reject_threshold([found], how))
    assert MIN_COVERAGE <= covered <= 0.62


def test_equally_sure_images_stand_on_the_same_side() -> None:
    true = np.arange(300) % 3
    given = np.full((300, 3), 0.1)
    given[np.arange(300), np.where(np.arange(300) < 60, (true + 1) % 3, true)] = 0.8
    found = PredictionSet(np.arange(300).astype(object), true, given, synthetic_runs.CLASSES)
    assert coverage_and_error(found, rule(), fit_reject_threshold([found], rule()))[0] == 1


def test_too_few_images_or_no_error_reject_nothing() -> None:
    assert fit_reject_threshold([answers(MIN_IMAGES - 1)], rule()) == 0
    assert fit_reject_threshold([answers(200, skill=50)], rule()) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": 1e-320},
        {"temperature": 101.0},
        {"positive": ("viral", "viral", "bacterial"), "threshold": 0.5},
        {"threshold": 0.5},
        {"positive": ILL},
        {"positive": synthetic_runs.CLASSES, "threshold": 0.5},
        {"positive": ("covid",), "threshold": 0.5},
        {"positive": ILL, "threshold": 1.5},
        {"reject_threshold": -0.1},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Received"):
        rule(**values)


def test_a_rule_is_the_same_after_its_document() -> None:
    found = fit([answers()], target_sensitivity=0.95)
    assert DecisionRule.from_document(found.document()) == found
    assert found.operating_point() == {"positive": list(ILL), "threshold": found.threshold, "rule": found.criterion}
    assert rule().operating_point() is None


def test_a_problem_is_named_with_the_rule_and_is_no_part_of_the_document() -> None:
    assert rule().notice == "" and rule().describe() == "highest probability"
    troubled = rule(problem="The saved rule is void. Fit it again.")
    assert troubled.describe() == "highest probability (the saved rule is void)"
    assert troubled.notice == "The saved rule is void. Fit it again. Until then the highest probability decides."
    assert troubled.document() == rule().document()


def test_what_cannot_be_fitted_is_told() -> None:
    found = answers().take(answers().true == 0)
    with pytest.raises(BadInput, match="no positive image"):
        fit([found], target_sensitivity=0.9)
    with pytest.raises(BadInput, match="at most 1"):
        fit([answers()], target_sensitivity=1.5)
    with pytest.raises(BadInput, match="between 0 and 1"):
        fit([answers()], threshold=1.5)
    with pytest.raises(UnknownName, match="covid"):
        fit([answers()], threshold=0.5, positive=["covid"])
