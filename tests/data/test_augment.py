"""Changed views drawn without Keras: the very ones that training draws with it."""

import math

import numpy as np
import pytest

from cxr_core.data.augment import AugmentationLimits, affine, augmented_view, blank_borders, crop_sides

NOISE = np.clip(np.random.default_rng(0).normal(120, 40, (60, 60)), 0, 255).astype(np.uint8)
MIDDLE = (NOISE > 60) & (NOISE < 190)  # pixels that no change of light pushes over the edge
NOTHING = AugmentationLimits(rotation=0, translation=0, zoom=0, flip=False, brightness=0, contrast=0)


def test_with_nothing_allowed_nothing_changes():
    np.testing.assert_array_equal(augmented_view(NOISE, 5, NOTHING), NOISE)


def test_the_seed_decides():
    assert np.array_equal(augmented_view(NOISE, 1), augmented_view(NOISE, 1))
    assert len({augmented_view(NOISE, seed).tobytes() for seed in range(1, 9)}) == 8


@pytest.mark.parametrize(
    ("allowed", "changed"),
    [
        ({"flip": True}, lambda image: np.array_equal(image, NOISE[:, ::-1])),
        ({"brightness": 0.2}, lambda image: np.ptp(image[MIDDLE].astype(int) - NOISE[MIDDLE]) <= 1),
        ({"contrast": 0.5}, lambda image: abs(float(image.mean()) - float(NOISE.mean())) < 3),
    ],
)
def test_each_limit_allows_its_own_change(allowed, changed):
    limits = AugmentationLimits(**{**NOTHING.__dict__, **allowed})
    found = [augmented_view(NOISE, seed, limits) for seed in range(12)]
    assert any(not np.array_equal(one, NOISE) for one in found)
    assert all(np.array_equal(one, NOISE) or changed(one) for one in found)


def test_limits_are_those_of_a_runs_settings():
    from cxr_core.runs.config import RunConfig

    config = RunConfig("custom_cnn", "paper", "small", "0", ("a", "b"), rotation=3.0)
    assert AugmentationLimits.of(config) == AugmentationLimits(rotation=3.0)


def test_a_move_is_what_the_layer_of_training_makes_of_the_same_numbers():
    from cxr_core.models.augmentation import RandomAffine

    limits = AugmentationLimits(rotation=20, translation=0.15, zoom=0.3, stretch=0.3, flip=True, crop=0.2)
    layer = RandomAffine(limits, share=1.0, seed=3)
    drawn, real = [], layer._uniform

    def spy(*arguments):
        drawn.append(np.asarray(real(*arguments)))
        return drawn[-1]

    layer._uniform = spy
    batch = np.repeat(NOISE[None, ..., None], 8, axis=0).astype(np.float32)
    made = np.asarray(layer(batch, training=True))[..., 0]
    _, angle, right, down, zoom, mirror, stretch, area, ratio, crop_right, crop_down = drawn
    for place in range(8):
        width, height = crop_sides(1 - float(area[place]), math.exp(float(ratio[place])))
        moved = affine(
            NOISE,
            angle=float(angle[place]),
            right=float(right[place]) + float(crop_right[place]) * (1 - width) / 2,
            down=float(down[place]) + float(crop_down[place]) * (1 - height) / 2,
            width=width,
            height=height,
            zoom=float(zoom[place]),
            mirror=bool(mirror[place] < 0.5),
            stretch=float(stretch[place]),
        )
        np.testing.assert_allclose(moved, made[place], atol=0.05)


def test_a_crop_shows_a_part_of_the_image_at_full_size_and_nothing_beyond_it():
    wide = np.zeros((60, 60), np.uint8)
    wide[:, 30:] = 255
    shown = affine(wide, right=0.25, width=0.5, height=0.5)
    assert shown.min() > 190 and shown.shape == (60, 60)
    for seed in range(40):  # an image whose border alone is white: a crop may touch it, but never mirrors it
        ring = np.full((60, 60), 255, np.uint8)
        ring[1:-1, 1:-1] = 0
        view = augmented_view(ring, seed, AugmentationLimits(**{**NOTHING.__dict__, "crop": 0.1}))
        assert not view[15:45, 15:45].any()


@pytest.mark.parametrize(
    ("area", "ratio", "sides"), [(0.25, 1.0, (0.5, 0.5)), (0.5, 2.0, (1.0, 0.5)), (0.9, 2.0, (1.0, 0.671))]
)
def test_a_crop_has_its_share_of_the_area_and_its_ratio_as_far_as_it_fits(area, ratio, sides):
    assert crop_sides(area, ratio) == pytest.approx(sides, abs=1e-3)


def test_half_of_the_borders_are_blank_and_none_is_wider_than_asked_for():
    many = [blank_borders(np.full((20, 20), 9.0), 0.25, np.random.default_rng(seed)) for seed in range(200)]
    assert all((blanked[5:15, 5:15] == 9).all() and set(np.unique(blanked)) <= {0, 9} for blanked in many)
    edges = [blanked[border] for blanked in many for border in ((0, 10), (-1, 10), (10, 0), (10, -1))]
    assert 0.4 < np.mean(np.array(edges) == 9) < 0.65
