"""Batches: every image with its own label, once an epoch, in an order that the seed decides."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from cxr_core.data.augment import augmented_view
from cxr_core.data.packing import StackedPixels
from cxr_core.training.batches import Batches, FeatureSource, ImageSource

COUNT, CLASSES = 23, 3
PIXELS = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None], (40, 8, 8)).copy()  # image i is all i
ROWS = np.random.default_rng(3).permutation(40)[:COUNT]
CODES = ROWS % CLASSES  # so that an image tells its own class


def batches(**changes: Any) -> Batches:
    given: dict[str, Any] = {"classes": CLASSES, "batch_size": 5, "seed": 7} | changes
    source = ImageSource(given.pop("pixels", PIXELS), ROWS, given.pop("views", None))
    return Batches(source, CODES, **given)


def order(of: Batches) -> list[int]:
    """The rows of one epoch in their order."""
    return [int(image[0, 0, 0]) for number in range(len(of)) for image in of[number][0]]


def epochs(of: Batches, count: int = 3) -> list[list[int]]:
    seen = []
    for _ in range(count):
        seen.append(order(of))
        of.on_epoch_end()
    return seen


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_every_image_comes_exactly_once_an_epoch(seed: int | None, batch_size: int):
    for seen in epochs(batches(seed=seed, batch_size=batch_size)):
        assert sorted(seen) == sorted(ROWS)


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(5, [5, 5, 5, 5, 3]), (23, [23]), (100, [23]), (22, [22, 1]), (1, [1] * 23)]
)
def test_only_the_last_batch_may_be_smaller(batch_size: int, sizes: list[int]):
    made = batches(batch_size=batch_size)
    assert len(made) == len(sizes)
    assert [len(made[number][0]) for number in range(len(made))] == sizes
    assert [len(made[number][1]) for number in range(len(made))] == sizes


def test_a_batch_is_uint8_images_with_one_channel_and_float32_one_hot_classes():
    images, classes = batches()[0]
    assert (images.dtype, images.shape) == (np.uint8, (5, 8, 8, 1))
    assert (classes.dtype, classes.shape) == (np.float32, (5, 3))
    assert sorted(set(classes.ravel())) == [0, 1]
    assert (classes.sum(axis=1) == 1).all()


def test_a_class_without_an_image_still_has_its_column():
    assert batches(classes=6)[0][1].shape == (5, 6)


def test_labels_travel_with_their_images():
    made = batches()
    for _ in range(3):
        for number in range(len(made)):
            images, classes = made[number]
            np.testing.assert_array_equal(classes.argmax(axis=1), images[:, 0, 0, 0] % CLASSES)
        made.on_epoch_end()


def test_without_a_seed_the_order_is_that_of_the_rows_in_every_epoch():
    assert epochs(batches(seed=None)) == [list(ROWS)] * 3


def test_the_same_seed_repeats_the_order_of_every_epoch():
    assert epochs(batches(seed=7)) == epochs(batches(seed=7))


def test_another_seed_gives_another_order():
    assert order(batches(seed=7)) != order(batches(seed=8))


@pytest.mark.parametrize("seed", [0, 7])  # 0 is a seed like any other
def test_each_epoch_has_another_order(seed: int):
    seen = epochs(batches(seed=seed))
    assert len({tuple(one) for one in [*seen, list(ROWS)]}) == 4


def test_asking_twice_within_an_epoch_gives_the_same_batch():
    made = batches()
    np.testing.assert_array_equal(made[2][0], made[2][0])


def test_a_read_only_memory_mapped_array_does(tmp_path: Path):
    np.save(tmp_path / "packed.npy", PIXELS)
    mapped = np.load(tmp_path / "packed.npy", mmap_mode="r")
    made, plain = batches(pixels=mapped), batches()
    for number in range(len(plain)):
        for one, other in zip(made[number], plain[number], strict=True):
            np.testing.assert_array_equal(one, other)
    made[0][0][:] = 0  # a copy that a layer may write to
    np.testing.assert_array_equal(mapped, PIXELS)


def test_a_stack_of_datasets_does():
    stack = StackedPixels({"first": PIXELS[:15], "second": PIXELS[15:]})
    assert epochs(batches(pixels=stack)) == epochs(batches())


def test_only_images_with_a_view_are_changed_and_always_in_the_same_way():
    noise = np.random.default_rng(5).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    views = np.where(np.arange(COUNT) == 4, 77, 0)
    made = batches(pixels=noise, views=views, seed=None, batch_size=COUNT)
    expected = noise[ROWS]
    expected[4] = augmented_view(noise[ROWS[4]], 77)
    for _ in range(2):
        np.testing.assert_array_equal(made[0][0][..., 0], expected)
        made.on_epoch_end()
    np.testing.assert_array_equal(noise, np.random.default_rng(5).integers(0, 256, (40, 8, 8), dtype=np.uint8))


def test_weights_travel_with_their_images_and_without_them_there_are_two_things():
    made = batches(weights=ROWS / 4)
    for number in range(len(made)):
        images, _, weights = made[number]
        assert weights.dtype == np.float32
        np.testing.assert_array_equal(weights * 4, images[:, 0, 0, 0])
    assert len(batches()[0]) == 2


VALUES = np.arange(60, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 3), np.float32)
PLACES = np.arange(60).reshape(3, 20).T[:COUNT]  # image i has its three views at i, i + 20, i + 40


def feature_epochs(seed: int, count: int) -> list[list[int]]:
    made = Batches(FeatureSource(VALUES, PLACES, seed=seed), PLACES[:, 0] % 3, classes=3, batch_size=7)
    seen = []
    for _ in range(count):
        parts = [made[number] for number in range(len(made))]
        seen.append([int(one[0, 0, 0]) for features, _ in parts for one in features])
        np.testing.assert_array_equal(np.concatenate([one.argmax(axis=1) for _, one in parts]), np.arange(20) % 3)
        made.on_epoch_end()
    return seen


def test_features_come_in_another_view_each_epoch_and_all_views_in_turn():
    seen = feature_epochs(seed=1, count=6)
    for one in seen:
        assert [value % 20 for value in one] == list(range(20))  # each image once, whatever its view
    for image in range(20):
        turns = [one[image] // 20 for one in seen]
        assert sorted(turns[:3]) == [0, 1, 2]
        assert turns[3:] == turns[:3]
    assert len({one // 20 for one in seen[0]}) == 3  # not all images in the same view at once


def test_the_seed_decides_which_view_comes_first():
    assert feature_epochs(1, 2) == feature_epochs(1, 2)
    assert feature_epochs(1, 1) != feature_epochs(2, 1)


class Notes(keras.layers.Layer):
    """Passes images on and notes their values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def call(self, images: Any, training: bool | None = None) -> Any:
        if training:
            self.seen += [int(value) for value in np.asarray(images)[:, 0, 0, 0]]
        return images


def test_a_fit_sees_every_image_once_an_epoch_and_each_epoch_in_another_order():
    """Keras' own shuffling and prefetching of the batches loses and repeats nothing."""
    notes = Notes()
    model = keras.Sequential([keras.Input((8, 8, 1)), notes, keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile("sgd", "mse", run_eagerly=True)
    notes.seen.clear()
    model.fit(batches(), epochs=3, verbose=0)
    seen: list[npt.NDArray[np.int64]] = np.split(np.array(notes.seen), 3)
    for one in seen:
        assert sorted(one) == sorted(ROWS)
    assert len({tuple(one) for one in seen}) == 3
