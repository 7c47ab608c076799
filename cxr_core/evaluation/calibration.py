"""Calibration: how far probabilities are from observed shares, and the temperature that mends most of it.

`true` is int (n,) of codes 0 to k - 1, `probabilities` float (n, k) in [0, 1], rows summing to 1.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core import formatting
from cxr_core.arrays import Floats, softmax
from cxr_core.evaluation import intervals

BINS = 15  # as in Guo et al.
COLDEST, HOTTEST = 0.05, 20.0
_LEAST = 1e-12  # a probability of 0 has no logarithm


def brier(true: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean over the images of the squared distance between answer and truth, summed over the classes: 0 best, 2 worst.

    Source: G. W. Brier, Monthly Weather Review 78 (1950) 1-3. For two classes twice scikit-learn's. NaN without images.
    """
    return _mean(brier_terms(true, probabilities))


def brier_terms(true: npt.ArrayLike, probabilities: npt.ArrayLike) -> Floats:
    """(n,) each image's part of `brier`."""
    values, codes = np.asarray(probabilities, dtype=np.float64), np.asarray(true, dtype=np.intp)
    scores: Floats = (values**2).sum(axis=1) - 2 * values[np.arange(len(codes)), codes] + 1
    return scores


def log_loss(true: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean over the images of minus the natural logarithm of the true class's probability; NaN without images."""
    return _mean(log_loss_terms(true, probabilities))


def log_loss_terms(true: npt.ArrayLike, probabilities: npt.ArrayLike) -> Floats:
    """(n,) each image's part of `log_loss`; probabilities below 1e-12 count as that."""
    values, codes = np.asarray(probabilities, dtype=np.float64), np.asarray(true, dtype=np.intp)
    shares = values / values.sum(axis=1, keepdims=True)
    losses: Floats = -np.log(np.clip(shares[np.arange(len(codes)), codes], _LEAST, 1.0))
    return losses


def bin_numbers(confidence: npt.ArrayLike, bins: int = BINS) -> npt.NDArray[np.intp]:
    """(n,) which of the equally wide bins (low, high] each probability lies in; 0 lies in the first."""
    return np.clip(np.ceil(np.asarray(confidence) * bins) - 1, 0, bins - 1).astype(np.intp)


def expected_calibration_error(confidence: npt.ArrayLike, right: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error in [0, 1]: over equally wide bins, the mean gap between confidence and share right.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017.

    Args:
        confidence: (n,) the probability of the class that was answered.
        right: bool (n,) whether the answer was right.
    """
    sure, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    gaps = np.bincount(bin_numbers(sure, bins), weights=hits - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure)) if len(sure) else float("nan")


def reliability(confidence: npt.ArrayLike, right: npt.ArrayLike, bins: int = 10) -> pd.DataFrame:
    """The reliability diagram: one row per bin that has images.

    Returns:
        low, high (of the bin), n, confidence (mean), share (right), share_low, share_high (95 %, Wilson).
    """
    sure, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    bin_of = bin_numbers(sure, bins)
    counts = np.bincount(bin_of, minlength=bins)
    means = np.bincount(bin_of, weights=sure, minlength=bins)
    hits_in = np.bincount(bin_of, weights=hits, minlength=bins).astype(int)
    rows = []
    for number in np.flatnonzero(counts):
        n, successes = int(counts[number]), int(hits_in[number])
        low, high = intervals.wilson(successes, n)
        rows.append((number / bins, (number + 1) / bins, n, means[number] / n, successes / n, low, high))
    return pd.DataFrame(rows, columns=["low", "high", "n", "confidence", "share", "share_low", "share_high"])


def reliability_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Reliability diagrams as a table to be read.

    Args:
        tables: title of the version to its `reliability`.

    Returns:
        Version, Probability, Images, Mean probability, Right: texts.
    """
    rows = [
        {
            "Version": title,
            "Probability": formatting.interval((row["low"], row["high"])),
            "Images": f"{row['n']:,.0f}",
            "Mean probability": formatting.percent(row["confidence"]),
            "Right": f"{formatting.percent(row['share'])} ({formatting.interval((row['share_low'], row['share_high']))})",
        }
        for title, table in tables.items()
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["Version", "Probability", "Images", "Mean probability", "Right"])


def fit_temperature(true: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """The temperature with the least log loss on these images, between 0.05 and 20; 1 leaves probabilities as they are.

    Above 1 the network was too sure, below 1 not sure enough. Source: Guo et al., see `expected_error`.
    """
    from scipy.optimize import minimize_scalar  # a live prediction fits nothing, and would wait for it

    values = np.asarray(probabilities, dtype=np.float64)
    if not len(values):
        return 1.0
    minimum = minimize_scalar(
        lambda log: log_loss(true, apply_temperature(values, float(np.exp(log)))),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(minimum.x))


def apply_temperature(probabilities: npt.ArrayLike, temperature: float) -> Floats:
    """(…, k) softmax of the logarithms divided by the temperature; the most probable class stays the same.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"A temperature is above 0. Received: {temperature}.")
    return softmax(np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _LEAST)) / temperature)


def _mean(terms: Floats) -> float:
    return float(terms.mean()) if len(terms) else float("nan")
