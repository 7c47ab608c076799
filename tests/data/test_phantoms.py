"""Phantoms: the same seed gives the same bytes, a body is recognisable, and only findings tell the classes apart."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from cxr_core.data.phantoms import CLASSES, MIN_SIZE, draw_body, phantom
from cxr_core.errors import BadInput, UnknownName

PER_CLASS = 150
SIDE = 112


def seeded(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@cache
def films(label: str) -> NDArray[np.float64]:
    kind = CLASSES.index(label)
    return np.stack([phantom(label, seeded(7, kind, n), size=SIDE) for n in range(PER_CLASS)]).astype(float)


def auc(high: NDArray[np.float64], low: NDArray[np.float64]) -> float:
    """Chance that a value of `high` lies above one of `low`: the rank sum of `high`, by hand."""
    ranks = np.concatenate([high, low]).argsort().argsort() + 1
    return (ranks[: len(high)].sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low))


def halves(images: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middle of the left and of the right lung in each image, where no pose hides them."""
    rows = images[:, int(0.30 * SIDE) : int(0.60 * SIDE)]
    return rows[:, :, int(0.20 * SIDE) : int(0.36 * SIDE)], rows[:, :, int(0.66 * SIDE) : int(0.82 * SIDE)]


def lopsided(images: NDArray[np.float64]) -> NDArray[np.float64]:
    left, right = (side.mean((1, 2)) for side in halves(images))
    return np.abs(left - right) / (left + right)


def fine_texture(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Contrast of both lungs at scales finer than ribs and coarser than grain."""
    small = images.reshape(len(images), SIDE // 2, 2, SIDE // 2, 2).mean((2, 4))
    left, right = (np.diff(small, 2, axis=2)[:, 16:34, cols].std((1, 2)) for cols in (slice(11, 20), slice(36, 45)))
    return np.minimum(left, right) / small.std((1, 2))


@pytest.mark.parametrize("label", CLASSES)
def test_the_same_seed_gives_the_same_bytes(label: str):
    assert phantom(label, seeded(3)).tobytes() == phantom(label, seeded(3)).tobytes()
    assert draw_body(seeded(3)) == draw_body(seeded(3))


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("size", [MIN_SIZE, 97, 224])
def test_shape_type_and_range(label: str, size: int):
    image = phantom(label, seeded(1), size=size)
    assert image.shape == (size, size)
    assert image.dtype == np.uint8
    assert image.max() > 120
    assert np.percentile(image, 10) < 90
    assert (image == 255).mean() < 0.05


def test_other_seeds_give_other_images():
    assert len({phantom("normal", seeded(seed), size=64).tobytes() for seed in range(20)}) == 20
    assert len({draw_body(seeded(seed)) for seed in range(20)}) == 20


def test_images_of_one_body_share_the_anatomy():
    people = [draw_body(seeded(5, person)) for person in range(12)]
    drawn = [phantom("normal", seeded(6, n), size=64, body=people[n // 2]) for n in range(24)]
    alike = np.corrcoef([image.ravel() for image in drawn])
    person = np.arange(24) // 2
    same = (person[:, None] == person) & ~np.eye(24, dtype=bool)
    assert alike[same].mean() > alike[person[:, None] != person].mean() + 0.01
    assert not np.array_equal(drawn[0], drawn[1])


def test_an_unknown_class_names_the_known_ones():
    with pytest.raises(UnknownName, match=r"There is no class named 'virall'.* Did you mean 'viral'\?") as caught:
        phantom("virall", seeded(0))
    assert caught.value.known == list(CLASSES)


def test_too_small_a_size_is_refused():
    with pytest.raises(BadInput, match=f"at least {MIN_SIZE} pixels"):
        phantom("normal", seeded(0), size=MIN_SIZE - 1)


@pytest.mark.parametrize(("one", "other"), [("viral", "normal"), ("bacterial", "normal"), ("viral", "bacterial")])
def test_brightness_and_border_do_not_tell_the_classes_apart(one: str, other: str):
    assert 0.35 < auc(films(one).mean((1, 2)), films(other).mean((1, 2))) < 0.65
    top = slice(0, SIDE // 14)
    assert 0.35 < auc(films(one)[:, top].mean((1, 2)), films(other)[:, top].mean((1, 2))) < 0.65


def test_findings_tell_the_classes_apart_though_not_always():
    assert 0.75 < auc(fine_texture(films("viral")), fine_texture(films("normal"))) < 0.999
    assert 0.70 < auc(lopsided(films("bacterial")), lopsided(films("normal"))) < 0.999
    assert auc(fine_texture(films("viral")), fine_texture(films("bacterial"))) > 0.70
