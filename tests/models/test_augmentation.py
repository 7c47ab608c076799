"""Augmentation: random changes in training, none in inference, and none in what is saved."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from cxr_core import images
from cxr_core.data.augment import AugmentationLimits
from cxr_core.models import augmentation, registry

OFF: dict[str, Any] = {
    "rotation": 0.0,
    "translation": 0.0,
    "zoom": 0.0,
    "stretch": 0.0,
    "crop": 1.0,
    "border": 0.0,
    "flip": False,
    "moved": 1.0,
    "brightness": 0.0,
    "contrast": 0.0,
}
FULL: dict[str, Any] = {
    "rotation": 45.0,
    "translation": 0.5,
    "zoom": 0.5,
    "stretch": 0.5,
    "crop": 0.05,
    "border": 0.4,
    "flip": True,
    "brightness": 0.9,
    "contrast": 0.9,
}  # the highest values that a run's settings take
MOVES = ("rotation", "translation", "zoom", "stretch", "crop")
GREY = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 1), dtype=np.uint8)
every_change = pytest.mark.parametrize("change", FULL)


@pytest.fixture(scope="module")
def core() -> keras.Model:
    return registry.build("custom_cnn", classes=3, size=32, dropout=0.5)


def wrapped(core: keras.Model, *, seed: int = 1, **changes: Any) -> keras.Model:
    settings = {**OFF, **changes}
    share = settings.pop("moved")
    return augmentation.training_model(
        core, AugmentationLimits(**settings), size=32, train_size=32, share=share, seed=seed
    )


def seen(model: keras.Model, grey: npt.NDArray[Any] = GREY, *, training: bool = True) -> npt.NDArray[np.float32]:
    """Input of the inner model: (N, 32, 32, 3)."""
    before = keras.Model(model.input, model.get_layer("three_channels").output)
    return np.asarray(before(grey, training=training))


def changing(model: keras.Model) -> list[str]:
    """The layers between the images and the model inside."""
    return [layer.name for layer in model.layers[1:-1] if layer.name != "three_channels"]


def plain(grey: npt.NDArray[np.uint8] = GREY) -> npt.NDArray[np.float32]:
    return images.to_input(grey[..., 0])


def spot(row: int, column: int, count: int = 200) -> npt.NDArray[np.uint8]:
    """(count, 32, 32, 1), black but for 2 × 2 white pixels, whose middle is at (row, column) + 0.5."""
    grey = np.zeros((count, 32, 32, 1), np.uint8)
    grey[:, row : row + 2, column : column + 2] = 255
    return grey


def moved_to(changed: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centre of the white in each image, in pixels down and right of the middle."""
    weights = changed[..., 0].astype(np.float64)
    middle = np.arange(32) - 15.5
    total = weights.sum(axis=(1, 2))
    return (weights.sum(axis=2) * middle).sum(axis=1) / total, (weights.sum(axis=1) * middle).sum(axis=1) / total


def test_in_inference_the_answer_is_exactly_that_of_the_model_inside(core: keras.Model):
    inside = np.asarray(core(plain(), training=False))
    np.testing.assert_array_equal(np.asarray(wrapped(core, **FULL)(GREY, training=False)), inside)


@every_change
def test_in_inference_no_pixel_is_changed(core: keras.Model, change: str):
    np.testing.assert_array_equal(seen(wrapped(core, **{change: FULL[change]}), training=False), plain())


@every_change
def test_in_training_every_change_that_is_asked_for_changes_images(core: keras.Model, change: str):
    model = wrapped(core, **{change: FULL[change]})
    assert len(changing(model)) == 1
    assert not np.array_equal(seen(model), plain())


def test_with_every_change_off_training_sees_the_plain_images(core: keras.Model):
    assert changing(wrapped(core)) == []
    np.testing.assert_array_equal(seen(wrapped(core)), plain())


@every_change
def test_each_image_of_a_batch_is_changed_in_its_own_way(core: keras.Model, change: str):
    changed = seen(wrapped(core, **{change: FULL[change]}), np.repeat(GREY[:1], 8, axis=0))
    assert not all(np.array_equal(changed[0], one) for one in changed[1:])


@pytest.mark.parametrize("fill", [0, 255, None], ids=["black", "white", "noise"])
def test_changed_images_stay_grey_finite_and_in_range(core: keras.Model, fill: int | None):
    changed = seen(wrapped(core, **FULL), GREY if fill is None else np.full_like(GREY, fill))
    assert (changed.shape, changed.dtype) == ((8, 32, 32, 3), np.float32)
    assert 0 <= changed.min() <= changed.max() <= 255
    np.testing.assert_array_equal(changed, np.repeat(changed[..., :1], 3, axis=-1))


def test_the_same_seed_repeats_the_changes_and_another_does_not(core: keras.Model):
    first, again, other = (seen(wrapped(core, seed=seed, **FULL)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_each_step_draws_anew(core: keras.Model):
    model = wrapped(core, **FULL)
    assert not np.array_equal(seen(model), seen(model))


def test_a_flip_mirrors_left_and_right_half_the_time_and_never_up_and_down(core: keras.Model):
    many = np.tile(GREY, (25, 1, 1, 1))
    mirrored = 0
    for before, after in zip(many.astype(np.float32), seen(wrapped(core, flip=True), many)[..., :1], strict=True):
        is_mirrored = np.array_equal(after, before[:, ::-1])
        assert is_mirrored or np.array_equal(after, before)
        mirrored += is_mirrored
    assert 60 < mirrored < 140  # of 200


@pytest.mark.parametrize("change", MOVES)
@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 195, 200)])
def test_only_the_share_that_is_to_be_moved_is_moved(core: keras.Model, change: str, share: float, low: int, high: int):
    many = np.tile(GREY, (25, 1, 1, 1))
    changed = seen(wrapped(core, moved=share, **{change: FULL[change]}), many)
    assert low <= (changed != plain(many)).any(axis=(1, 2, 3)).sum() <= high


def test_images_that_are_not_moved_are_flipped_all_the_same(core: keras.Model):
    assert not np.array_equal(seen(wrapped(core, moved=0.0, flip=True)), plain())


@pytest.mark.parametrize("change", MOVES)
def test_beyond_the_border_the_image_goes_on(core: keras.Model, change: str):
    """No dark corners, from which a network could tell that an image was moved."""
    changed = seen(wrapped(core, **{change: FULL[change]}), np.full_like(GREY, 255))
    np.testing.assert_allclose(changed, 255, atol=0.01)


@pytest.mark.parametrize("degrees", [10.0, 45.0])
def test_rotation_is_about_the_middle_and_at_most_so_many_degrees_either_way(core: keras.Model, degrees: float):
    down, right = moved_to(seen(wrapped(core, rotation=degrees), spot(15, 23)))
    turned = np.degrees(np.arctan2(down, right))
    np.testing.assert_allclose(np.hypot(down, right), 8, atol=0.5)
    assert 0.9 * degrees < turned.max() < degrees + 2
    assert 0.9 * degrees < -turned.min() < degrees + 2


def test_translation_is_at_most_that_share_of_the_side_both_ways(core: keras.Model):
    for moved in moved_to(seen(wrapped(core, translation=0.25), spot(15, 15))):
        assert 7 < moved.max() < 8.3
        assert 7 < -moved.min() < 8.3


def test_zoom_is_about_the_middle_and_at_most_that_share_in_or_out(core: keras.Model):
    down, right = moved_to(seen(wrapped(core, zoom=0.25), spot(15, 23)))
    np.testing.assert_allclose(down, 0, atol=0.1)
    assert 8 / 1.3 < right.min() < 8 / 1.2
    assert 8 / 0.8 < right.max() < 8 / 0.7


def test_stretch_is_sideways_only_and_at_most_that_share(core: keras.Model):
    down, right = moved_to(seen(wrapped(core, stretch=0.25), spot(23, 23)))
    np.testing.assert_allclose(down, 8, atol=0.1)
    assert 8 / 1.3 < right.min() < 8 / 1.2
    assert 8 / 0.8 < right.max() < 8 / 0.7


def test_brightness_is_a_share_of_the_grey_range_up_or_down(core: keras.Model):
    moved = seen(wrapped(core, brightness=0.1), np.full((200, 32, 32, 1), 128, np.uint8)) - 128
    assert 23 < moved.max() <= 25.5 + 1e-3
    assert 23 < -moved.min() <= 25.5 + 1e-3
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:, :1, :1], moved.shape), atol=1e-3)


def test_contrast_goes_up_or_down_about_the_mean_by_at_most_that_share(core: keras.Model):
    halves = np.full((200, 32, 32, 1), 78, np.uint8)
    halves[:, 16:] = 178
    changed = seen(wrapped(core, contrast=0.2), halves)
    np.testing.assert_allclose(changed.mean(axis=(1, 2)), 128, atol=0.1)
    stretch = (changed[:, 31, 0, 0] - changed[:, 0, 0, 0]) / 100
    assert 0.79 < stretch.min() < 0.83
    assert 1.17 < stretch.max() < 1.21


def test_wrapper_and_model_inside_share_their_weights(core: keras.Model):
    model = wrapped(core, **FULL)
    assert {id(one) for one in model.trainable_variables} == {id(one) for one in core.trainable_variables}


def test_what_is_saved_of_the_model_inside_never_augments(core: keras.Model, tmp_path: Path):
    wrapped(core, **FULL)
    core.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert [layer.name for layer in again.layers] == [layer.name for layer in core.layers]
    assert again.input_shape == (None, 32, 32, 3)
    np.testing.assert_array_equal(np.asarray(again(plain(), training=False)), np.asarray(core(plain(), training=False)))


def test_a_crop_has_at_least_that_share_of_the_area_and_lies_within_the_image(core: keras.Model):
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    shown = [
        seen(wrapped(core, crop=0.25), np.repeat((4 * position)[None, ..., None], 300, axis=0).astype(np.float32))[
            ..., 0
        ]
        / 4
        for position in (rows, columns)
    ]
    height, width = shown[0][:, -1, 0] - shown[0][:, 0, 0], shown[1][:, 0, -1] - shown[1][:, 0, 0]
    area = (height / 31) * (width / 31)
    assert 0.24 < area.min() < 0.35 and area.max() > 0.85
    assert (width / height).max() < 1.34 and (width / height).min() > 0.74
    assert min(picture.min() for picture in shown) >= 0 and max(picture.max() for picture in shown) <= 31


def test_blank_borders_are_at_most_that_share_of_the_side_and_half_of_them_stay(core: keras.Model):
    shown = seen(wrapped(core, border=0.25), np.full((400, 32, 32, 1), 200, np.uint8))[..., 0]
    assert set(np.unique(shown)) == {0, 200} and (shown[:, 8:24, 8:24] == 200).all()
    whole = [(border != 0).mean() for border in (shown[:, 0, 16], shown[:, -1, 16], shown[:, 16, 0], shown[:, 16, -1])]
    assert all(0.4 < share < 0.65 for share in whole)


def test_training_sees_a_smaller_size_and_inference_the_image_size():
    learner = registry.build("custom_cnn", classes=3, size=None, head="average")
    model = augmentation.training_model(
        learner, AugmentationLimits(crop=0.2), size=64, train_size=32, share=1.0, seed=1
    )
    grey = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 1), dtype=np.uint8)
    affine = model.layers[1]
    assert affine(grey.astype(np.float32), training=True).shape == (4, 32, 32, 1)
    assert affine(grey.astype(np.float32), training=False).shape == (4, 64, 64, 1)
    model.compile("sgd", "categorical_crossentropy")
    targets = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    model.fit(grey, targets, validation_data=(grey, targets), verbose=0)
    core = registry.build("custom_cnn", classes=3, size=64, head="average")
    core.set_weights(learner.get_weights())
    inside = np.asarray(core(images.to_input(grey[..., 0]), training=False))
    np.testing.assert_allclose(np.asarray(model(grey, training=False)), inside, atol=1e-5)


def test_a_smaller_training_size_without_a_crop_shows_the_whole_image(core: keras.Model):
    del core
    learner = registry.build("custom_cnn", classes=3, size=None, head="average")
    nothing = AugmentationLimits(rotation=0, translation=0, zoom=0, flip=False, brightness=0, contrast=0)
    affine = augmentation.training_model(learner, nothing, size=64, train_size=32, share=0.0, seed=1).layers[1]
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32)[None, None, :, None], (2, 64, 64, 1))
    np.testing.assert_allclose(np.asarray(affine(ramp, training=True))[0, 0, :, 0], np.arange(32) * 2 + 0.5, atol=1e-3)
