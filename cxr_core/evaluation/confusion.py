"""The confusion matrix and what is computed from it alone; every function also takes a stack of matrices.

Shape (…, k, k), rows the true class, columns the predicted one, counts of images.
A class without images of its own ("support 0") has no recall, so it takes no part in any average over classes.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def matrix(true: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> Counts:
    """(k, k) int64 counts.

    Args:
        true: (n,) codes of the true classes, 0 to k - 1.
        predicted: (n,) codes of the predicted classes, 0 to k - 1, in the same order.
        classes: k.
    """
    places = np.asarray(true, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def recall(confusion: npt.ArrayLike) -> Floats:
    """(…, k) in [0, 1]: the share of each class's images that were recognised; NaN for support 0."""
    counts = np.asarray(confusion, dtype=np.float64)
    return _ratio(_hits(counts), counts.sum(axis=-1))


def precision(confusion: npt.ArrayLike) -> Floats:
    """(…, k) in [0, 1]: the share of the images called this class that are of it; NaN if none was called so."""
    counts = np.asarray(confusion, dtype=np.float64)
    return _ratio(_hits(counts), counts.sum(axis=-2))


def f1(confusion: npt.ArrayLike) -> Floats:
    """(…, k) in [0, 1]: 2·hits / (support + called); NaN if the class neither occurs nor was called."""
    counts = np.asarray(confusion, dtype=np.float64)
    return _ratio(2 * _hits(counts), counts.sum(axis=-1) + counts.sum(axis=-2))


def macro_f1(confusion: npt.ArrayLike) -> Floats:
    """(…) in [0, 1]: the plain mean of `f1` over the classes with support."""
    return over_supported(f1(confusion), confusion)


def balanced_accuracy(confusion: npt.ArrayLike) -> Floats:
    """(…) in [0, 1]: the plain mean of `recall` over the classes with support (as scikit-learn's, `adjusted=False`)."""
    return over_supported(recall(confusion), confusion)


def over_supported(values: npt.ArrayLike, confusion: npt.ArrayLike) -> Floats:
    """(…) the plain mean of (…, k) values over the classes with support, an undefined value counting as 0."""
    supported = np.asarray(confusion).sum(axis=-1) > 0
    kept = np.where(supported, np.nan_to_num(np.asarray(values, dtype=np.float64)), 0.0)
    return _ratio(kept.sum(axis=-1), supported.sum(axis=-1).astype(np.float64))


def _hits(counts: Floats) -> Floats:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    above, below = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    shape = np.broadcast_shapes(above.shape, below.shape)
    ratio: Floats = np.divide(above, below, out=np.full(shape, np.nan), where=below > 0)
    return ratio
