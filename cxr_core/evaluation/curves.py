"""Receiver operating characteristic and precision-recall of one question with a score, threshold by threshold.

`positive` is bool (n,), `score` float (n,), higher meaning more probably positive. An image is called positive when its score
is at or above the threshold. Sources: T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27 (2006)
861-874; average precision as in scikit-learn, without interpolation.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxr_core.arrays import Floats


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """Counts at every distinct score as threshold, from the highest down.

    Attributes:
        thresholds: (m,) the distinct scores, falling.
        true_positives, false_positives: (m,) images at or above each.
        positives, negatives: images in all.
    """

    thresholds: Floats
    true_positives: npt.NDArray[np.int64]
    false_positives: npt.NDArray[np.int64]
    positives: int
    negatives: int


def threshold_counts(positive: npt.ArrayLike, score: npt.ArrayLike) -> ThresholdCounts:
    """All thresholds at once."""
    is_positive, scores = np.asarray(positive, dtype=bool), np.asarray(score, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    falling, hits = scores[order], np.cumsum(is_positive[order])
    ends = np.flatnonzero(np.append(np.diff(falling) != 0, True)) if len(falling) else np.empty(0, np.intp)
    true_positives = hits[ends].astype(np.int64)
    false_positives = ends + 1 - true_positives
    return ThresholdCounts(
        falling[ends], true_positives, false_positives, int(is_positive.sum()), int((~is_positive).sum())
    )


def roc(positive: npt.ArrayLike, score: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """(m + 1,) each: false positive rate, true positive rate, threshold, from (0, 0) at infinity to (1, 1).

    NaN where there is no image to be a share of.
    """
    counts = threshold_counts(positive, score)
    return (
        np.append(0.0, counts.false_positives) / (counts.negatives or np.nan),
        np.append(0.0, counts.true_positives) / (counts.positives or np.nan),
        np.append(np.inf, counts.thresholds),
    )


def auc(positive: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Area under the ROC in [0, 1]: how often a positive scores above a negative, ties counting half; NaN without both.

    Source: J. A. Hanley and B. J. McNeil, Radiology 143 (1982) 29-36.
    """
    false_rate, true_rate, _ = roc(positive, score)
    if len(false_rate) < 2:
        return float("nan")
    return float(np.trapezoid(true_rate, false_rate))


def precision_recall(positive: npt.ArrayLike, score: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """(m,) each: precision, recall, threshold, thresholds falling; recall NaN without a positive."""
    counts = threshold_counts(positive, score)
    called = counts.true_positives + counts.false_positives
    return counts.true_positives / called, counts.true_positives / (counts.positives or np.nan), counts.thresholds


def average_precision(positive: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Sum over the thresholds of the gain in recall times the precision, in [0, 1]; NaN without a positive."""
    precision, recall, _ = precision_recall(positive, score)
    if not len(recall):
        return float("nan")
    return float(np.diff(recall, prepend=0.0) @ precision)


def thinned(x: Floats, y: Floats, *, most: int = 400) -> tuple[Floats, Floats]:
    """A curve with at most `most` points for drawing: ends and corners are kept, what is between even steps is not."""
    if len(x) <= most:
        return x, y
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], most)).clip(0, len(x) - 1))
    kept = np.union1d(kept, [0, len(x) - 1])
    return x[kept], y[kept]
