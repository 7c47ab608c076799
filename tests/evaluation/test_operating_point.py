"""Thresholds: their counts, how they are chosen, and what they give in another population."""

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr_core.errors import BadInput, UnknownName
from cxr_core.evaluation import operating_point
from cxr_core.evaluation.operating_point import Outcome
from cxr_core.evaluation.prediction_set import PredictionSet
from tests import synthetic_runs


def answers(n: int = 500, seed: int = 0) -> PredictionSet:
    true = np.random.default_rng(seed).integers(0, 3, n)
    given = synthetic_runs.probabilities(true, 3, seed=seed)
    return PredictionSet(np.arange(n).astype(object), true, given, synthetic_runs.CLASSES)


def test_the_score_is_the_sum_over_the_positive_classes() -> None:
    found = answers()
    positive, score = operating_point.question(found, ("viral", "bacterial"))
    np.testing.assert_allclose(score, 1 - found.probabilities[:, 0])
    assert (positive == (found.true != 0)).all()


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_counts_agree_with_scikit_learn(threshold: float) -> None:
    positive, score = operating_point.question(answers(), ("viral", "bacterial"))
    found = operating_point.outcome_at(positive, score, threshold)
    called = score >= threshold
    assert [found.tn, found.fp, found.fn, found.tp] == reference.confusion_matrix(
        positive, called, labels=[False, True]
    ).ravel().tolist()
    assert found.sensitivity == pytest.approx(reference.recall_score(positive, called, zero_division=0), abs=1e-9)
    assert found.specificity == pytest.approx(reference.recall_score(~positive, ~called, zero_division=0), abs=1e-9)
    for name in ("sensitivity", "specificity", "ppv", "npv"):
        low, high = found.intervals[name]
        value = getattr(found, name)
        assert value is None or low <= value <= high


@pytest.mark.parametrize("least", [0.5, 0.8, 0.95, 1.0])
def test_the_highest_threshold_that_finds_enough(least: float) -> None:
    positive, score = operating_point.question(answers(), ("viral",))
    threshold = operating_point.threshold_for_sensitivity(positive, score, least)
    assert operating_point.outcome_at(positive, score, threshold).sensitivity >= least
    assert operating_point.outcome_at(positive, score, np.nextafter(threshold, 2)).sensitivity < least


def test_youden_is_the_best_of_all_thresholds() -> None:
    positive, score = operating_point.question(answers(), ("normal",))

    def gain(threshold: float) -> float:
        found = operating_point.outcome_at(positive, score, threshold)
        return found.sensitivity + found.specificity

    best = gain(operating_point.threshold_by_youden(positive, score))
    assert best == pytest.approx(max(gain(one) for one in np.unique(score)))


def test_predictive_values_at_another_prevalence() -> None:
    # the mammography example of G. Gigerenzer, Calculated Risks (2002): 90 % and 93 % at a prevalence of 0.8 % give 9 %
    found = operating_point.adjusted_for_prevalence(Outcome(tp=90, fp=70, fn=10, tn=930), 0.008)
    assert found is not None and found.ppv == pytest.approx(0.008 * 0.9 / (0.008 * 0.9 + 0.992 * 0.07), abs=1e-12)
    assert round(found.ppv, 2) == 0.09 and found.npv > 0.999
    assert found.ppv_interval[0] < found.ppv < found.ppv_interval[1]
    here = Outcome(tp=90, fp=70, fn=10, tn=930)
    same = operating_point.adjusted_for_prevalence(here, 100 / 1100)
    assert (same.ppv, same.npv) == (pytest.approx(here.ppv), pytest.approx(here.npv))


def test_intervals_of_adjusted_values_cover_the_truth() -> None:
    rng, hits = np.random.default_rng(3), 0
    truth = 0.1 * 0.9 / (0.1 * 0.9 + 0.9 * 0.2)
    for _ in range(1000):
        tp, tn = int(rng.binomial(150, 0.9)), int(rng.binomial(150, 0.8))
        found = operating_point.adjusted_for_prevalence(Outcome(tp, 150 - tn, 150 - tp, tn), 0.1)
        hits += found.ppv_interval[0] <= truth <= found.ppv_interval[1]
    assert 930 <= hits <= 970


def test_odd_questions_are_refused_in_words() -> None:
    found = answers(30)
    with pytest.raises(UnknownName, match="normal, viral, bacterial"):
        operating_point.question(found, ("covid",))
    for positive in ((), synthetic_runs.CLASSES):
        with pytest.raises(BadInput, match="at least one positive"):
            operating_point.question(found, positive)
    with pytest.raises(BadInput, match="no positive image"):
        operating_point.threshold_for_sensitivity(np.zeros(3, bool), np.zeros(3), 0.9)
    with pytest.raises(BadInput, match="positive and negative"):
        operating_point.threshold_by_youden(np.ones(3, bool), np.zeros(3))
    with pytest.raises(BadInput, match="prevalence"):
        operating_point.adjusted_for_prevalence(Outcome(1, 1, 1, 1), 1.0)
    assert operating_point.adjusted_for_prevalence(Outcome(0, 1, 0, 1), 0.1) is None
    assert Outcome(0, 0, 0, 0).sensitivity is None
