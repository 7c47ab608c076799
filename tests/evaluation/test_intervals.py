"""Wilson against published values; the bootstrap against a plain one, image by image."""

import time

import numpy as np
import pytest

from cxr_core.evaluation import confusion, intervals


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_published(successes: int, n: int, low: float, high: float) -> None:
    assert intervals.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    mirrored = intervals.wilson(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_edges() -> None:
    assert intervals.wilson(0, 0) == (0.0, 1.0)
    assert intervals.wilson(0, 8)[0] == 0.0
    assert intervals.wilson(8, 8)[1] == 1.0 and intervals.wilson(8, 8)[0] < 0.7
    narrow, wide = intervals.wilson(5, 10, 0.5), intervals.wilson(5, 10, 0.99)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]


@pytest.mark.parametrize("bad", [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 0.0)])
def test_wilson_refuses(bad: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="Received"):
        intervals.wilson(*bad)


def codes(counts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    true, predicted = np.indices((len(counts), len(counts)))
    return np.repeat(true.ravel(), np.ravel(counts)), np.repeat(predicted.ravel(), np.ravel(counts))


@pytest.mark.parametrize(
    "counts",
    [
        [[110, 2, 122], [1, 12, 135], [0, 1, 241]],
        [[7, 1, 0], [0, 0, 0], [1, 0, 7]],
        [[3, 0], [0, 0]],
        [[5]],
        [[0, 4], [4, 0]],
    ],
)
def test_bootstrap_contains_the_point(counts: list[list[int]]) -> None:
    true, predicted = codes(counts)
    found = intervals.bootstrap(true, predicted, len(counts))
    for name, point in (
        ("macro_f1", confusion.macro_f1(counts)),
        ("balanced_accuracy", confusion.balanced_accuracy(counts)),
    ):
        low, high = found[name]
        assert 0 <= low <= point <= high <= 1
        assert isinstance(low, float) and isinstance(high, float)


def test_bootstrap_equals_drawing_images_one_by_one() -> None:
    counts = [[60, 25, 15], [10, 20, 10], [5, 5, 70]]
    true, predicted = codes(counts)
    rng = np.random.default_rng(1)
    places = [np.flatnonzero(true == name) for name in range(3)]
    plain = []
    for _ in range(4000):
        chosen = np.concatenate([rng.choice(place, place.size) for place in places])
        plain.append(confusion.matrix(true[chosen], predicted[chosen], 3))
    stack = np.array(plain)
    found = intervals.bootstrap(true, predicted, 3, resamples=20_000)
    for name, values in (
        ("macro_f1", confusion.macro_f1(stack)),
        ("balanced_accuracy", confusion.balanced_accuracy(stack)),
    ):
        assert found[name] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=0.006)


def test_bootstrap_is_seeded_narrows_with_n_and_is_quick() -> None:
    small, large = codes([[6, 4], [3, 7]]), codes([[6000, 4000], [3000, 7000]])
    assert intervals.bootstrap(*small, 2, seed=3) == intervals.bootstrap(*small, 2, seed=3)
    widths = [high - low for low, high in (intervals.bootstrap(*one, 2)["macro_f1"] for one in (small, large))]
    assert widths[1] < widths[0] / 10
    started = time.perf_counter()
    intervals.bootstrap(*large, 2)
    assert time.perf_counter() - started < 1


def test_bootstrap_of_nothing_knows_nothing() -> None:
    assert intervals.bootstrap([], [], 3) == {"macro_f1": (0.0, 1.0), "balanced_accuracy": (0.0, 1.0)}
