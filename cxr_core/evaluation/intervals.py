"""How far a figure may be off by the chance of which images were in the split."""

from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from cxr_core.evaluation import confusion

Interval = tuple[float, float]


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of a share: `successes` of `n`.

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


def bootstrap(
    true_codes: npt.ArrayLike,
    predicted_codes: npt.ArrayLike,
    classes: int,
    *,
    resamples: int = 4000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of macro F1 and balanced accuracy, by a bootstrap stratified by true class.

    Drawing images with replacement within a true class and counting what they were called is one multinomial draw per
    row of the confusion matrix, so whole matrices are drawn; this is exact, and takes milliseconds whatever n is.
    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.

    A bootstrap cannot imagine mistakes that it has not seen: where a class has none, its part of the interval has no
    width. Read it beside the Wilson interval of that class's recall.

    Args:
        true_codes: (n,) codes of the true classes, 0 to k - 1.
        predicted_codes: (n,) codes of the predicted classes, 0 to k - 1, in the same order.
        classes: k.
        resamples: how many matrices are drawn.
        confidence: share of them within the interval.
        seed: the same seed gives the same interval.

    Returns:
        {"macro_f1": (low, high), "balanced_accuracy": (low, high)}, within [0, 1]; (0, 1) without any image.
    """
    observed = confusion.matrix(true_codes, predicted_codes, classes)
    if not observed.sum():
        return {"macro_f1": (0.0, 1.0), "balanced_accuracy": (0.0, 1.0)}
    support = observed.sum(axis=1)
    shares = observed / np.maximum(support, 1)[:, None]
    shares[support == 0, 0] = 1.0
    drawn = np.random.default_rng(seed).multinomial(support, shares, size=(resamples, classes))
    return {
        "macro_f1": _percentiles(confusion.macro_f1(drawn), confidence),
        "balanced_accuracy": _percentiles(confusion.balanced_accuracy(drawn), confidence),
    }


def _percentiles(values: confusion.Floats, confidence: float) -> Interval:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
