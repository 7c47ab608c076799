"""Thresholds: their counts, how they are chosen, and what they give in another population."""

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr_core.errors import BadInput, UnknownName
from cxr_core.evaluation import operating_point
from cxr_core.evaluation.operating_point import Outcome, ppv_at_prevalence
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
    assert (found.sensitivity.value or 0) == pytest.approx(
        reference.recall_score(positive, called, zero_division=0), abs=1e-9
    )
    assert (found.specificity.value or 0) == pytest.approx(
        reference.recall_score(~positive, ~called, zero_division=0), abs=1e-9
    )
    for name in ("sensitivity", "specificity", "ppv", "npv"):
        share = getattr(found, name)
        assert share.value is None or share.interval[0] <= share.value <= share.interval[1]
    predictive = reference.precision_score(positive, called, zero_division=0)
    assert (found.ppv.value or 0) == pytest.approx(predictive) and found.mirrored.ppv == found.npv


@pytest.mark.parametrize("least", [0.5, 0.8, 0.95, 1.0])
def test_the_highest_threshold_that_finds_enough(least: float) -> None:
    positive, score = operating_point.question(answers(), ("viral",))
    threshold = operating_point.threshold_for_sensitivity(positive, score, least)
    assert operating_point.outcome_at(positive, score, threshold).sensitivity.value >= least
    assert operating_point.outcome_at(positive, score, np.nextafter(threshold, 2)).sensitivity.value < least


def test_youden_is_the_best_of_all_thresholds() -> None:
    positive, score = operating_point.question(answers(), ("normal",))

    def gain(threshold: float) -> float:
        found = operating_point.outcome_at(positive, score, threshold)
        return found.sensitivity.value + found.specificity.value

    best = gain(operating_point.threshold_by_youden(positive, score))
    assert best == pytest.approx(max(gain(one) for one in np.unique(score)))


def test_predictive_values_at_another_prevalence() -> None:
    # the mammography example of G. Gigerenzer, Calculated Risks (2002): 90 % and 93 % at a prevalence of 0.8 % give 9 %
    here = Outcome(tp=90, fp=70, fn=10, tn=930)
    ppv, npv = ppv_at_prevalence(here, 0.008), ppv_at_prevalence(here.mirrored, 1 - 0.008)
    assert ppv.value == pytest.approx(0.008 * 0.9 / (0.008 * 0.9 + 0.992 * 0.07), abs=1e-12)
    assert round(ppv.value, 2) == 0.09 and npv.value > 0.999
    assert ppv.low < ppv.value < ppv.high and npv.low < npv.value < npv.high
    share = 100 / 1100
    assert ppv_at_prevalence(here, share).value == pytest.approx(here.ppv.value)
    assert ppv_at_prevalence(here.mirrored, 1 - share).value == pytest.approx(here.npv.value)
    assert ppv_at_prevalence(Outcome(90, 0, 10, 30), 0.1).value == 1
    assert ppv_at_prevalence(Outcome(0, 5, 10, 30), 0.1).value == 0


@pytest.mark.parametrize("negative", [False, True])
def test_intervals_at_another_prevalence_cover_the_truth(negative: bool) -> None:
    rng, hits = np.random.default_rng(3), 0
    truth = 0.9 * 0.8 / (0.9 * 0.8 + 0.1 * 0.1) if negative else 0.1 * 0.9 / (0.1 * 0.9 + 0.9 * 0.2)
    for _ in range(1000):
        tp, tn = int(rng.binomial(150, 0.9)), int(rng.binomial(150, 0.8))
        outcome = Outcome(tp, 150 - tn, 150 - tp, tn)
        found = ppv_at_prevalence(outcome.mirrored, 0.9) if negative else ppv_at_prevalence(outcome, 0.1)
        hits += found.low <= truth <= found.high
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
        ppv_at_prevalence(Outcome(1, 1, 1, 1), 1.0)
    for unknown in (Outcome(0, 1, 0, 1), Outcome(1, 0, 1, 0), Outcome(0, 0, 1, 1)):
        assert ppv_at_prevalence(unknown, 0.1).value is None and ppv_at_prevalence(unknown, 0.1).interval is None
    assert Outcome(0, 0, 0, 0).sensitivity.value is None
