"""The arithmetic of confusion matrices agrees with scikit-learn, alone and in stacks."""

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr_core.evaluation import confusion


@pytest.mark.parametrize("classes", [2, 3, 14])
def test_agrees_with_scikit_learn(classes: int) -> None:
    true, predicted = np.random.default_rng(classes).integers(0, classes, (2, 500))
    counts = confusion.matrix(true, predicted, classes)
    assert (counts == reference.confusion_matrix(true, predicted, labels=range(classes))).all()
    p, r, f, _ = reference.precision_recall_fscore_support(true, predicted, labels=range(classes), zero_division=np.nan)
    for ours, theirs in ((confusion.precision(counts), p), (confusion.recall(counts), r), (confusion.f1(counts), f)):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_undefined_is_nan_and_takes_no_part() -> None:
    counts = [[7, 0, 1], [0, 0, 0], [2, 0, 6]]
    assert np.isnan([confusion.recall(counts)[1], confusion.precision(counts)[1], confusion.f1(counts)[1]]).all()
    assert confusion.balanced_accuracy(counts) == pytest.approx((7 / 8 + 6 / 8) / 2)
    assert np.isnan(confusion.macro_f1(np.zeros((3, 3))))


def test_stack_equals_its_matrices() -> None:
    stack = np.random.default_rng(0).integers(0, 4, (20, 3, 3))
    np.testing.assert_allclose(confusion.macro_f1(stack), [confusion.macro_f1(one) for one in stack])
