"""Changed views drawn without Keras: the very ones that training draws with it."""

import numpy as np
import pytest

from cxr_core.data.augment import AugmentationLimits, affine, augmented_view

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

    limits = AugmentationLimits(rotation=20, translation=0.15, zoom=0.3, stretch=0.3, flip=True)
    layer = RandomAffine(limits, share=1.0, seed=3)
    drawn, real = [], layer._uniform

    def spy(*arguments):
        drawn.append(np.asarray(real(*arguments)))
        return drawn[-1]

    layer._uniform = spy
    batch = np.repeat(NOISE[None, ..., None], 8, axis=0).astype(np.float32)
    made = np.asarray(layer(batch, training=True))[..., 0]
    _, angle, right, down, zoom, mirror, stretch = drawn
    for place in range(8):
        moved = affine(
            NOISE,
            angle=float(angle[place]),
            right=float(right[place]),
            down=float(down[place]),
            zoom=float(zoom[place]),
            mirror=bool(mirror[place] < 0.5),
            stretch=float(stretch[place]),
        )
        np.testing.assert_allclose(moved, made[place], atol=0.05)
