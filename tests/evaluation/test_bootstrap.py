"""Every figure against scikit-learn; every interval by simulation."""

import time
import tracemalloc

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr_core.evaluation import bootstrap, calibration, confusion, curves, intervals, metrics
from cxr_core.evaluation.prediction_set import PredictionSet
from tests import synthetic_runs

CLASSES = synthetic_runs.CLASSES


def answers(
    n: int = 400, *, seed: int = 0, k: int = 3, rounded: int | None = None, skill: float = 1.5
) -> PredictionSet:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, k, n)
    given = synthetic_runs.probabilities(true, k, skill=skill, seed=seed + 1)
    if rounded is not None:  # many ties
        given = np.maximum(given.round(rounded), 1e-3)
        given /= given.sum(axis=1, keepdims=True)
    ids = np.array([f"{place}.png" for place in range(n)], dtype=object)
    return PredictionSet(ids, true, given, CLASSES[:k])


@pytest.mark.parametrize(("seed", "rounded"), [(0, None), (1, None), (2, 1), (3, 1)])
def test_every_figure_agrees_with_scikit_learn(seed: int, rounded: int | None) -> None:
    one = answers(seed=seed, rounded=rounded)
    found, true, called, given = metrics.values(one), one.true, one.predicted, one.probabilities
    expected = {
        "accuracy": reference.accuracy_score(true, called),
        "macro_f1": reference.f1_score(true, called, average="macro"),
        "balanced_accuracy": reference.balanced_accuracy_score(true, called),
        "macro_auc": reference.roc_auc_score(true, given, multi_class="ovr", average="macro"),
        "brier": reference.brier_score_loss(true, given, scale_by_half=False),
        "log_loss": reference.log_loss(true, given),
    }
    for code, name in enumerate(CLASSES):
        own = true == code
        expected |= {
            f"auc:{name}": reference.roc_auc_score(own, given[:, code]),
            f"ap:{name}": reference.average_precision_score(own, given[:, code]),
            f"recall:{name}": reference.recall_score(own, called == code),
            f"precision:{name}": reference.precision_score(own, called == code),
            f"f1:{name}": reference.f1_score(own, called == code),
        }
    expected["macro_ap"] = np.mean([expected[f"ap:{name}"] for name in CLASSES])
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    assert set(found) == {*expected, "ece"}


@pytest.mark.parametrize("rounded", [None, 1])
def test_curves_agree_with_scikit_learn(rounded: int | None) -> None:
    one = answers(rounded=rounded)
    own, score = one.true == 1, one.probabilities[:, 1]
    for ours, theirs in zip(
        curves.roc(own, score), reference.roc_curve(own, score, drop_intermediate=False), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    precision, recall, thresholds = curves.precision_recall(own, score)
    theirs = reference.precision_recall_curve(own, score)
    np.testing.assert_allclose(precision[::-1], theirs[0][:-1], atol=1e-9)
    np.testing.assert_allclose(recall[::-1], theirs[1][:-1], atol=1e-9)
    np.testing.assert_allclose(thresholds[::-1], theirs[2], atol=1e-9)


def test_a_thinned_curve_keeps_its_ends_and_stays_close() -> None:
    one = answers(5000)
    x, y, _ = curves.roc(one.true == 0, one.probabilities[:, 0])
    few_x, few_y = curves.thinned(x, y)
    assert len(few_x) <= 402 and (few_x[0], few_y[0], few_x[-1], few_y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(few_y, few_x) == pytest.approx(np.trapezoid(y, x), abs=1e-3)


def test_calibration_error_by_hand() -> None:
    # bins of a third: one image at 0.3 wrong; two at 0.6, one right; three at 0.9, all right
    sure, right = [0.3, 0.6, 0.6, 0.9, 0.9, 0.9], [False, True, False, True, True, True]
    assert calibration.expected_calibration_error(sure, right, bins=3) == pytest.approx((0.3 + 0.2 + 0.3) / 6)
    table = calibration.reliability(sure, right, bins=3)
    assert table["n"].tolist() == [1, 2, 3] and table["share"].tolist() == [0, 0.5, 1]
    assert np.isnan(calibration.expected_calibration_error([], []))


@pytest.mark.slow
def test_temperature_agrees_with_scikit_learn_and_finds_what_was_made() -> None:
    one = answers(4000, seed=5)
    found = calibration.fit_temperature(one.true, one.probabilities)
    grid = np.exp(np.linspace(np.log(0.5), np.log(3), 2001))
    losses = [reference.log_loss(one.true, calibration.apply_temperature(one.probabilities, heat)) for heat in grid]
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=2e-3)
    known = calibration.fit_temperature(one.true, calibration.apply_temperature(one.probabilities, 1 / 2.5))
    assert known == pytest.approx(2.5 * found, rel=1e-3)
    after = calibration.apply_temperature(one.probabilities, found)
    np.testing.assert_array_equal(after.argmax(axis=1), one.predicted)
    assert calibration.log_loss(one.true, after) <= calibration.log_loss(one.true, one.probabilities)


@pytest.mark.parametrize("rounded", [None, 1])
def test_the_bootstrap_equals_drawing_patients_one_by_one(rounded: int | None) -> None:
    one = answers(150, rounded=rounded)
    rng = np.random.default_rng(4)
    patients = np.array([f"p{code}-{number}" for code, number in zip(one.true, rng.integers(0, 25, 150), strict=True)])
    how = bootstrap.draws(one.true, patients, resamples=20)
    found = bootstrap.replicates(one, how)
    counts = np.concatenate(list(how.chunks()), axis=1).astype(int)
    for number in range(20):
        chosen = np.repeat(np.arange(150), counts[how.patients, number])
        plain = metrics.values(one.take(chosen))
        for name, value in plain.items():
            if name != "ece":  # centred, see bootstrap._centred
                assert found[name][number] == pytest.approx(value, abs=1e-6), name


def test_the_bootstrap_draws_whole_patients_within_their_class() -> None:
    true = np.array([0] * 40 + [1] * 20)
    patients = np.repeat(np.arange(20), 3)
    how = bootstrap.draws(true, patients, resamples=500)
    (counts,) = how.chunks()
    assert len(how.strata) == 20 and (counts.sum(axis=0) == 20).all()
    for stratum in (0, 1):
        assert (counts[how.strata == stratum].sum(axis=0) == (how.strata == stratum).sum()).all()


def test_very_many_patients_are_drawn_in_random_groups_with_the_same_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    one = answers(4000, seed=3)
    fine = bootstrap.replicates(one, bootstrap.draws(one.true, None))
    monkeypatch.setattr(bootstrap, "GROUPS", 400)
    how = bootstrap.draws(one.true, None)
    coarse = bootstrap.replicates(one, how)
    assert len(how.strata) == 1200
    for name in ("macro_f1", "auc:viral", "brier", "log_loss"):
        assert coarse[name].std() == pytest.approx(fine[name].std(), rel=0.15), name


COVERED = ("macro_f1", "balanced_accuracy", "macro_auc", "ap:viral", "brier", "log_loss")


@pytest.mark.slow
def test_bootstrap_intervals_cover_the_truth_in_about_95_of_100() -> None:
    """1,000 samples of 300 images from a world of 60,000 whose figures are known."""
    world = answers(60_000, seed=9)
    truth, hits = metrics.values(world), dict.fromkeys(COVERED, 0)
    rng = np.random.default_rng(2)
    by_class = [np.flatnonzero(world.true == code) for code in range(3)]
    for _ in range(1000):
        sample = world.take(np.concatenate([rng.choice(own, 100) for own in by_class]))
        how = bootstrap.draws(sample.true, None, resamples=400)
        drawn, point = bootstrap.replicates(sample, how), metrics.values(sample)
        for name in COVERED:
            low, high = bootstrap.interval(name, drawn[name], point[name], how.fewest) or (1, 0)
            hits[name] += low <= truth[name] <= high
    for name, count in hits.items():
        assert 930 <= count <= 970, (name, count)


def test_bootstrap_of_patients_covers_where_images_of_one_person_are_alike() -> None:
    """Five images of a person, all right or all wrong mostly: images drawn singly would be far too sure of themselves."""
    rng, hits = np.random.default_rng(8), {"patients": 0, "images": 0}
    true = np.repeat(np.tile([0, 1], 60), 5)
    patients = np.repeat(np.arange(120), 5)
    for _ in range(1000):
        skill = np.repeat(rng.choice([0.95, 0.55], 120), 5)  # on average 0.75
        right = rng.random(600) < skill
        given = np.where(right, 0.8, 0.2)
        table = np.where(true[:, None] == np.arange(2), given[:, None], 1 - given[:, None])
        one = PredictionSet(np.arange(600).astype(object), true, table, ("a", "b"))
        for title, who in (("patients", patients), ("images", None)):
            how = bootstrap.draws(true, who, resamples=400)
            drawn = bootstrap.replicates(one, how, parts=("counts",))
            low, high = bootstrap.percentile_interval(drawn["balanced_accuracy"], how.fewest) or (1, 0)
            hits[title] += low <= 0.75 <= high
    assert 930 <= hits["patients"] <= 970 and hits["images"] < 920, hits


@pytest.mark.parametrize(("share", "n"), [(0.3, 60), (0.75, 148), (0.9, 234)])
def test_wilson_covers_the_truth_in_about_95_of_100(share: float, n: int) -> None:
    found = np.random.default_rng(7).binomial(n, share, 1000)
    inside = sum(low <= share <= high for low, high in (intervals.wilson(int(one), n) for one in found))
    assert 930 <= inside <= 970


def test_a_card_says_how_each_interval_was_found() -> None:
    one = answers(90)
    card = metrics.estimate(one, None)
    assert {figure.method for figure in card.values()} == {metrics.WILSON, metrics.IMAGES}
    assert metrics.estimate(one, np.arange(90) // 3)["macro_f1"].method == metrics.PATIENTS
    assert set(card) == set(metrics.names(CLASSES))
    for name, figure in card.items():
        assert figure.value is not None and figure.low <= figure.value <= figure.high, name


@pytest.mark.parametrize("present", [[0], [0, 2], []])
def test_splits_without_a_class_or_without_any_image(present: list[int]) -> None:
    one = answers(200).take(np.isin(answers(200).true, present))
    card = metrics.estimate(one, None)
    for code, name in enumerate(CLASSES):
        assert (card[f"recall:{name}"].value is None) == (code not in present)
        alone = len(present) < 2
        assert (card[f"auc:{name}"].value is None) == (code not in present or alone)
    assert (card["accuracy"].value is None) == (not present)
    assert confusion.matrix(one.true, one.predicted, 3).sum() == len(one)


def test_draws_are_cached_in_little_memory_and_released_when_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty splits of 5,216 images, as twenty runs on different folds: what stays is bounded, and then goes."""
    monkeypatch.setattr(bootstrap, "RELEASE_S", 0.2)
    bootstrap._drawn_counts.cache_clear()
    tracemalloc.start()
    try:
        for seed in range(20):
            for _ in bootstrap.draws(np.arange(5216) % 3, None, seed=seed).chunks():
                pass
        cached = tracemalloc.get_traced_memory()[0]
        assert bootstrap._drawn_counts.cache_info().currsize and cached < 24 * 2**20
        for _ in range(100):
            time.sleep(0.1)
            if not bootstrap._drawn_counts.cache_info().currsize:
                break
        assert tracemalloc.get_traced_memory()[0] < cached / 10
    finally:
        tracemalloc.stop()
