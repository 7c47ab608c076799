"""The confusion matrix and what is computed from it alone; every function also takes a stack of matrices.

Shape (…, k, k), rows the true class, columns the predicted one, counts of images.
A class without images of its own ("support 0") has no recall, so it takes no part in any average over classes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.arrays import Counts, Floats


def matrix(true: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> Counts:
    """(k, k) int64 counts.

    Args:
        true: (n,) codes of the true classes, 0 to k - 1.
        predicted: (n,) codes of the predicted classes, 0 to k - 1, in the same order.
        classes: k.
    """
    cells = np.asarray(true, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def recall(confusion: npt.ArrayLike) -> Floats:
    """(…, k) in [0, 1]: the share of each class's images that were recognised; NaN for support 0."""
    counts = np.asarray(confusion, dtype=np.float64)
    return _ratio(_hits(counts), counts.sum(axis=-1))


def precision(confusion: npt.ArrayLike) -> Floats:
    """(…, k) in [0, 1]: the share of the images predicted as a class that are of it; NaN if there are none."""
    counts = np.asarray(confusion, dtype=np.float64)
    return _ratio(_hits(counts), counts.sum(axis=-2))


def f1(confusion: npt.ArrayLike) -> Floats:
    """(…, k) in [0, 1]: 2·hits / (support + predicted); NaN if the class neither occurs nor was predicted."""
    counts = np.asarray(confusion, dtype=np.float64)
    return _ratio(2 * _hits(counts), counts.sum(axis=-1) + counts.sum(axis=-2))


def accuracy(confusion: npt.ArrayLike) -> Floats:
    """(…) in [0, 1]: the share of images on the diagonal; NaN without images."""
    counts = np.asarray(confusion, dtype=np.float64)
    return _ratio(_hits(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))


def macro_f1(confusion: npt.ArrayLike) -> Floats:
    """(…) in [0, 1]: the plain mean of `f1` over the classes with support."""
    return over_supported(f1(confusion), confusion)


def balanced_accuracy(confusion: npt.ArrayLike) -> Floats:
    """(…) in [0, 1]: the plain mean of `recall` over the classes with support (as scikit-learn's, `adjusted=False`)."""
    return over_supported(recall(confusion), confusion)


def over_supported(values: npt.ArrayLike, confusion: npt.ArrayLike) -> Floats:
    """(…) the plain mean of (…, k) values over the classes with support, an undefined value counting as 0."""
    supported = np.asarray(confusion).sum(axis=-1) > 0
    counted = np.where(supported, np.nan_to_num(np.asarray(values, dtype=np.float64)), 0.0)
    return _ratio(counted.sum(axis=-1), supported.sum(axis=-1).astype(np.float64))


def by_name(confusion: npt.ArrayLike, classes: Sequence[str]) -> dict[str, Floats]:
    """(…) each metric that the matrix gives, by its name in metrics.py: `accuracy`, `recall:<class>` and so on."""
    values = {
        "accuracy": accuracy(confusion),
        "macro_f1": macro_f1(confusion),
        "balanced_accuracy": balanced_accuracy(confusion),
    }
    for name, of_classes in (("recall", recall), ("precision", precision), ("f1", f1)):
        per_class = of_classes(confusion)
        values |= {f"{name}:{label}": per_class[..., code] for code, label in enumerate(classes)}
    return values


def classification_report(names: Sequence[str], counts: Counts) -> pd.DataFrame:
    """The classification report of one matrix (k, k), laid out as scikit-learn prints it.

    One row per class, then `accuracy` (the share stands under f1-score, as there), `macro avg` and `weighted avg`;
    columns precision, recall, f1-score (float64 in [0, 1]) and support (int64). Two readings differ from scikit-learn's print:
    what is not defined is NaN where that prints 0.00, and `macro avg` leaves out classes with support 0, so that it agrees
    with `macro_f1`. In both averages the precision of a class that was never predicted counts as 0, as there.
    """
    support = counts.sum(axis=1)
    n = int(support.sum())
    columns = {"precision": precision(counts), "recall": recall(counts), "f1-score": f1(counts)}
    body = pd.DataFrame({**columns, "support": support}, index=pd.Index(list(names), dtype="str"))
    macro = {name: float(over_supported(values, counts)) for name, values in columns.items()}
    weighted = {name: float(np.nan_to_num(values) @ support) / n if n else np.nan for name, values in columns.items()}
    foot = pd.DataFrame(
        [{"precision": np.nan, "recall": np.nan, "f1-score": float(accuracy(counts))}, macro, weighted],
        index=pd.Index(["accuracy", "macro avg", "weighted avg"], dtype="str"),
    ).assign(support=n)
    return pd.concat([body, foot])


def _hits(counts: Floats) -> Floats:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    above, below = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    shape = np.broadcast_shapes(above.shape, below.shape)
    ratio: Floats = np.divide(above, below, out=np.full(shape, np.nan), where=below > 0)
    return ratio
