"""Two runs on the same images: differences with paired intervals, McNemar, agreement, settings."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr_core.evaluation import comparison, metrics
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs import config as settings
from tests import synthetic_runs


def answers(seed: int, *, n: int = 400, skill: float = 1.6, true: np.ndarray | None = None) -> PredictionSet:
    codes = np.arange(n) % 3 if true is None else true
    given = synthetic_runs.probabilities(codes, 3, skill=skill, seed=seed)
    return PredictionSet(np.arange(len(codes)).astype(object), codes, given, synthetic_runs.CLASSES)


def test_differences_are_those_of_the_points_and_lie_in_their_intervals() -> None:
    one, other = answers(1), answers(2, skill=2.2)
    apart = comparison.differences(one, other, None)
    before, after = metrics.values(one), metrics.values(other)
    for name, found in apart.items():
        assert found.value == pytest.approx(after[name] - before[name]), name
        assert found.low <= found.value <= found.high, name


def test_a_run_is_not_apart_from_itself_and_pairing_narrows() -> None:
    one = answers(1, skill=1.2)
    for found in comparison.differences(one, one, None).values():
        assert (found.value, found.low, found.high) == (0, 0, 0)
    changed = one.probabilities.copy()
    changed[:8] = changed[:8, ::-1]
    near = one.with_probabilities(changed)
    width = np.ptp(comparison.differences(one, near, None)["macro_f1"].interval)
    alone = np.ptp(metrics.estimate(one, None)["macro_f1"].interval)
    assert width < alone / 2


@pytest.mark.slow
def test_paired_intervals_cover_a_difference_of_nothing() -> None:
    """Two networks that are equally good and err together: 95 of 100 intervals hold 0."""
    rng, hits, true = np.random.default_rng(5), 0, np.arange(150) % 2
    for _ in range(300):
        shared = rng.normal(size=150)
        runs = []
        for _ in range(2):
            score = 1 / (1 + np.exp(-(shared + rng.normal(size=150) / 2 + (2 * true - 1))))
            given = np.stack([1 - score, score], axis=1)
            runs.append(PredictionSet(np.arange(150).astype(object), true, given, ("a", "b")))
        low, high = comparison.differences(*runs, None, parts=("counts",))["macro_f1"].interval
        hits += low <= 0 <= high
    assert 0.91 <= hits / 300 <= 0.985, hits


def test_mcnemar_published() -> None:
    # M. W. Fagerland, S. Lydersen, P. Laake, BMC Medical Research Methodology 13 (2013) 91, airway hyper-responsiveness
    # before and after stem cell transplantation: 1 and 7 discordant pairs, exact conditional p = 0.0703
    right = np.array([True] * 1 + [False] * 7 + [True] * 13)
    other = np.array([False] * 1 + [True] * 7 + [True] * 13)

    def of(hits: np.ndarray) -> PredictionSet:
        given = np.where(hits[:, None], [0.9, 0.1], [0.1, 0.9])
        return PredictionSet(np.arange(21).astype(object), np.zeros(21, np.intp), given, ("a", "b"))

    found = comparison.mcnemar(of(right), of(other))
    assert (found.first_only, found.second_only, round(found.p, 4)) == (1, 7, 0.0703)
    assert comparison.mcnemar(of(right), of(right)).p == 1.0


def test_agreement_agrees_with_scikit_learn() -> None:
    one, other = answers(1), answers(2)
    alike, kappa = comparison.agreement(one, other)
    assert alike == pytest.approx(reference.accuracy_score(one.predicted, other.predicted), abs=1e-9)
    assert kappa == pytest.approx(reference.cohen_kappa_score(one.predicted, other.predicted), abs=1e-9)
    assert np.isnan(comparison.agreement(one.take(np.arange(0)), other.take(np.arange(0)))[0])


def test_only_correct_are_the_images_that_one_has_right_and_the_other_not() -> None:
    one, other = answers(1), answers(2)
    found = comparison.only_correct(one, other)
    assert found.sum() == comparison.mcnemar(one, other).first_only
    assert one.correct[found].all() and not other.correct[found].any()


def test_only_settings_that_differ_are_listed() -> None:
    one = settings.make(model="custom_cnn", recipe="paper", data="d", manifest="m", classes=("a", "b"))
    table = comparison.settings({"A": one, "B": replace(one, dropout=0.5, seed=3)})
    assert sorted(table.index) == ["dropout", "seed"]
    assert table.loc["dropout"].tolist() == ["0.2", "0.5"]
    assert comparison.settings({"A": one, "B": one}).empty
