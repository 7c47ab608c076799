"""Answers are the predictions table row by row, and several runs meet on the images that all of them answered."""

import numpy as np
import pandas as pd
import pytest

from cxr_core.errors import BadInput
from cxr_core.evaluation import prediction_set
from tests import synthetic_runs as invented


def made_up(n: int, *, seed: int = 0, classes: tuple[str, ...] = invented.CLASSES) -> prediction_set.PredictionSet:
    true = np.arange(n) % len(classes)
    given = invented.probabilities(true, len(classes), seed=seed)
    return prediction_set.PredictionSet(
        np.array([f"{place:03d}.png" for place in range(n)], dtype=object), true, given, classes
    )


def test_a_table_becomes_answers_and_back() -> None:
    found = made_up(30)
    pd.testing.assert_frame_equal(prediction_set.from_table(found.table()).table(), found.table())
    assert found.confusion.sum() == 30 and found.support.tolist() == [10, 10, 10]
    assert (found.correct == (found.predicted == found.true)).all()


def test_common_images_are_matched_by_id_in_the_order_of_the_first() -> None:
    one, other = made_up(30, seed=1), made_up(30, seed=2)
    shuffled = other.take(np.random.default_rng(0).permutation(30)[:20])
    both = prediction_set.shared_images([one, shuffled])
    assert len(both) == 20 and both.images == (30, 20) and both.relabelled == 0
    assert both.members[0].ids.tolist() == both.members[1].ids.tolist() == sorted(shuffled.ids)
    place = {name: row for row, name in enumerate(other.ids)}
    expected = other.probabilities[[place[name] for name in both.members[1].ids]]
    np.testing.assert_array_equal(both.members[1].probabilities, expected)


def test_images_with_another_class_in_one_run_are_counted_and_left_out() -> None:
    one = made_up(30)
    true = one.true.copy()
    true[:3] = (true[:3] + 1) % 3
    other = prediction_set.PredictionSet(one.ids, true, one.probabilities, one.classes)
    both = prediction_set.shared_images([one, other])
    assert len(both) == 27 and both.relabelled == 3


def test_what_cannot_be_compared_is_refused_in_words() -> None:
    one = made_up(9)
    stranger = prediction_set.PredictionSet(one.ids + "x", one.true, one.probabilities, one.classes)
    with pytest.raises(BadInput, match="no image in common"):
        prediction_set.shared_images([one, stranger])
    with pytest.raises(BadInput, match="same classes"):
        prediction_set.shared_images([one, made_up(9, classes=("normal", "abnormal"))])
    with pytest.raises(BadInput, match="nothing to compare"):
        prediction_set.shared_images([])
