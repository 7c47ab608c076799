"""Intervals of shares, of their differences and of means; of other metrics: see bootstrap.py."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

Interval = tuple[float, float]


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion, `successes` of `n`.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    J. Am. Stat. Assoc. 22 (1927) 209-212; without continuity correction.

    Returns:
        (low, high) within [0, 1]; (0, 1) for n = 0, when nothing is known.

    Raises:
        ValueError: not 0 <= successes <= n, or confidence not between 0 and 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"Expected 0 <= successes <= n. Received: {successes} of {n}.")
    if not 0 < confidence < 1:
        raise ValueError(f"Expected a confidence between 0 and 1. Received: {confidence}.")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == n else min(1.0, middle + half)
    return low, high


def newcombe(first: int, n: int, second: int, m: int) -> Interval:
    """Newcombe's 95 % interval of first/n - second/m, for different images.

    Source: R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10 (hybrid score).
    """
    p, q = first / n, second / m
    (low_p, high_p), (low_q, high_q) = wilson(first, n), wilson(second, m)
    return (
        p - q - sqrt((p - low_p) ** 2 + (high_q - q) ** 2),
        p - q + sqrt((high_p - p) ** 2 + (q - low_q) ** 2),
    )


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values, as of runs with different seeds.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908) 1-25.

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"The interval of a mean needs at least two values. Received: {len(values)}.")
    from scipy.special import stdtrit  # a live prediction needs no mean, and would wait for it

    mean = fmean(values)
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * stdev(values) / sqrt(len(values))
    return mean - half, mean + half


class Share(NamedTuple):
    """So many `images` of `of`; of none, nothing is known."""

    images: int
    of: int

    @property
    def value(self) -> float | None:
        return self.images / self.of if self.of else None

    @property
    def interval(self) -> Interval:
        """95 % Wilson interval; (0, 1) for a share of nothing."""
        return wilson(self.images, self.of)
