"""The end of a network in plain arrays: its answers, and how much each place counted."""

from pathlib import Path

import numpy as np
import pytest

from cxr_core.errors import WorkFailed
from cxr_core.inference.head import Head

SHAPE = (4, 5, 6)


def made(*sizes: int, averaged: bool = False, seed: int = 0) -> Head:
    rng = np.random.default_rng(seed)
    inputs = SHAPE[-1] if averaged else int(np.prod(SHAPE))
    pairs = list(zip((inputs, *sizes), sizes, strict=False))
    weights = tuple(rng.normal(size=pair).astype(np.float32) / np.float32(np.sqrt(pair[0])) for pair in pairs)
    return Head(averaged, weights, tuple(rng.normal(size=one).astype(np.float32) for one in sizes))


def features(count: int = 3) -> np.ndarray:
    return np.random.default_rng(9).normal(size=(count, *SHAPE)).astype(np.float32)


HEADS = [made(3), made(3, averaged=True), made(16, 3), made(16, 8, 3), made(16, 3, averaged=True)]


@pytest.mark.parametrize("head", HEADS)
def test_probabilities_are_shares_of_one(head: Head) -> None:
    found = head.probabilities(features())
    assert found.shape == (3, 3) and (found > 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("label", [0, 1, 2])
def test_the_map_of_a_class_adds_up_to_its_score(head: Head, label: int) -> None:
    for one in features(5):
        total = head.attribution(one, label).sum() + head.constant(one, label)
        assert total == pytest.approx(head.scores(one[None])[0, label], abs=1e-5)


def test_a_place_that_raises_the_score_is_bright() -> None:
    head, one = made(3), np.zeros(SHAPE, np.float32)
    one[2, 3] = head.weights[0][:, 1].reshape(SHAPE)[2, 3]  # just what class 1 looks for, at one place
    found = head.attribution(one, 1)
    assert found.argmax() == np.ravel_multi_index((2, 3), found.shape) and np.count_nonzero(found) == 1


def test_other_weights_give_another_map() -> None:
    """Sanity check of Adebayo et al., 2018: a map that survives random weights says nothing of the network."""
    one = features(1)[0]
    maps = [made(16, 3, seed=seed).attribution(one, 0).ravel() for seed in (0, 1)]
    assert abs(np.corrcoef(*maps)[0, 1]) < 0.5


@pytest.mark.parametrize("head", HEADS)
def test_what_is_saved_comes_back(head: Head, tmp_path: Path) -> None:
    head.save(tmp_path / "head.npz")
    np.testing.assert_array_equal(Head.load(tmp_path / "head.npz").scores(features()), head.scores(features()))


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "head.npz").write_bytes(b"nothing")
    for path in (tmp_path / "head.npz", tmp_path / "none.npz"):
        with pytest.raises(WorkFailed, match=r"is damaged|could not be read"):
            Head.load(path)
