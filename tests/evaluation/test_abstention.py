"""When a run says that it is unsure."""

from pathlib import Path

import numpy as np
import pytest

from cxr_core.data import manifest
from cxr_core.evaluation import abstention, fitted, prediction_set
from cxr_core.evaluation.prediction_set import PredictionSet
from tests import synthetic_runs


def answers(count: int, *, seed: int = 0, skill: float = 1.6) -> PredictionSet:
    true = np.random.default_rng(seed).integers(0, 3, count)
    given = synthetic_runs.probabilities(true, 3, skill=skill, seed=seed)
    return PredictionSet(np.arange(count).astype(object), true, given, synthetic_runs.CLASSES)


@pytest.mark.parametrize("seed", range(5))
def test_sure_answers_have_at_most_half_of_the_errors(seed: int) -> None:
    found = answers(2000, seed=seed)
    band = abstention.band(found)
    assert band is not None
    sure = found.probabilities.max(axis=1) >= band.least
    assert band.answered == sure.sum() and band.right == found.correct[sure].sum()
    assert 1 - band.right / band.answered <= (1 - band.right_of_all / band.images) / 2
    assert band.answered >= (1 - abstention.MOST) * len(found)


def test_no_lower_bar_would_do() -> None:
    found = answers(400)
    band = abstention.band(found)
    assert band is not None
    lower = np.unique(found.probabilities.max(axis=1))
    lower = lower[lower < band.least]
    for least in lower:
        sure = found.probabilities.max(axis=1) >= least
        assert 1 - found.correct[sure].mean() > (1 - found.correct.mean()) / 2


def test_where_halving_would_leave_too_few_the_bar_leaves_enough() -> None:
    true = np.arange(200) % 2  # the surest are wrong as often as the others
    given = np.where(np.arange(200)[:, None] % 4 < 2, [[0.6, 0.4]], [[0.4, 0.6]]) + np.linspace(0, 0.01, 200)[:, None]
    found = PredictionSet(np.arange(200).astype(object), true, given / given.sum(axis=1, keepdims=True), ("a", "b"))
    band = abstention.band(found)
    assert band is not None and 120 <= band.answered <= 200


def test_equally_sure_images_stand_on_the_same_side() -> None:
    true = np.arange(300) % 3
    given = np.full((300, 3), 0.1)
    given[np.arange(300), np.where(np.arange(300) < 60, (true + 1) % 3, true)] = 0.8
    band = abstention.band(PredictionSet(np.arange(300).astype(object), true, given, synthetic_runs.CLASSES))
    assert band is not None and band.answered == 300


def test_too_few_images_or_no_error_give_no_bar() -> None:
    assert abstention.band(answers(abstention.FEWEST - 1)) is None
    assert abstention.band(answers(200, skill=50)) is None


def test_a_run_is_sure_of_the_class_that_it_calls_not_of_the_most_probable_one(home: Path) -> None:
    synthetic_runs.paper_set()
    run = synthetic_runs.on("kermany", manifest.build("kermany", split="patient").id)
    heat, bar = fitted.keep_temperature(run).value, abstention.of_run(run)
    test = prediction_set.read(run, "test")
    assert bar is not None and heat != 1
    calm = fitted.tempered(test, heat).probabilities
    assert np.array_equal(abstention.sure(run, test), calm.max(axis=1) >= bar.least)
    all_viral = fitted.decided(test, fitted.keep_point(run, ("normal", "bacterial"), 1.0))
    sure = abstention.sure(run, all_viral)
    assert sure is not None and np.array_equal(sure, calm[:, 1] >= bar.least) and 0 < sure.sum() < len(test)
