"""Wilson against published values; for the bootstrap see test_scorecard."""

import numpy as np
import pytest
from scipy import stats

from cxr_core.evaluation import intervals


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


def test_newcombe_published() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10
    assert intervals.newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert intervals.newcombe(9, 10, 3, 10) == pytest.approx((0.1705, 0.8090), abs=5e-5)


def test_t_interval_is_that_of_scipy_and_covers_the_mean_in_about_95_of_100() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.8, 0.02, 5)
    assert intervals.t_interval(values.tolist()) == pytest.approx(
        stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    )
    ranges = [intervals.t_interval(rng.normal(0.8, 0.02, 5).tolist()) for _ in range(1000)]
    assert 930 <= sum(low <= 0.8 <= high for low, high in ranges) <= 970
    with pytest.raises(ValueError, match="at least two"):
        intervals.t_interval([0.8])
