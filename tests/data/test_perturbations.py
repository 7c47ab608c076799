"""Shifted copies: like no other machine's file, the same every time, and behind the images that they are copies of."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxr_core.data import perturbations
from cxr_core.data.packing import StackedPixels
from cxr_core.data.phantoms import phantom


def images(count: int, size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.stack([phantom("normal", rng, size=size) for _ in range(count)])


def rows(**columns: list[object]) -> pd.DataFrame:
    splits = columns["split"]
    return pd.DataFrame(
        {"copy": 0, "view": 0, "sha256": [f"{one:064x}" for one in range(len(splits))], "place": range(len(splits))}
        | columns
    )


def test_a_copy_is_another_picture_of_the_same_body():
    (image,) = images(1)
    copies = [perturbations.perturbed(image, seed) for seed in range(40)]
    assert all(one.dtype == np.uint8 and one.shape == image.shape for one in copies)
    assert len({one.tobytes() for one in copies}) >= 38
    alike = [np.corrcoef(one.ravel(), image.ravel())[0, 1] for one in copies]
    assert np.mean(alike) > 0.5 and max(alike) < 0.9999


def test_most_copies_are_framed_anew_and_the_body_stays_in_them():
    rows_, columns = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    framed, blank = 0, 0
    for seed in range(100):
        seen = perturbations._framed_again(
            (rows_ * 2 + columns + 20).astype(np.uint8), np.random.default_rng([seed, 9])
        )
        framed += not np.array_equal(seen[16:48, 16:48], (rows_ * 2 + columns + 20)[16:48, 16:48])
        blank += not (seen[0].any() and seen[-1].any() and seen[:, 0].any() and seen[:, -1].any())
        assert seen[7:57, 7:57].all()  # no border is wider than a tenth of the side
    assert 55 < framed < 85 and 50 < blank < 80


def test_the_same_seed_gives_the_same_copy():
    (image,) = images(1)
    assert (perturbations.perturbed(image, 5) == perturbations.perturbed(image, 5)).all()


@pytest.mark.parametrize("grey", [0, 255])
def test_an_even_image_stays_an_image(grey: int):
    for seed in range(20):
        perturbations.perturbed(np.full((32, 32), grey, np.uint8), seed)


def test_each_validation_image_has_one_copy_behind_the_others():
    pixels = StackedPixels({"a": images(3), "b": images(2)})
    table = rows(split=["train", "val", "val", "test", "val"], copy=[0, 0, 1, 0, 0])
    stack, every = perturbations.with_perturbed_split(pixels, table)
    copies = every[every["split"] == perturbations.SPLIT]
    assert copies["place"].tolist() == [5, 6] and len(stack) == 7 and len(every) == 7
    assert every["split"].tolist()[:5] == table["split"].tolist() and every.index.is_unique
    assert every["sha256"].is_unique
    assert (stack[np.array([4])] == pixels[np.array([4])]).all()
    assert not (stack[np.array([6])] == pixels[np.array([4])]).all()


def test_a_copy_depends_on_its_file_alone():
    pixels, table = StackedPixels({"a": images(3)}), rows(split=["val", "val", "train"])
    stack, _ = perturbations.with_perturbed_split(pixels, table)
    alone, _ = perturbations.with_perturbed_split(pixels, table.iloc[1:])
    assert (stack[np.array([4])] == alone[np.array([3])]).all()


def test_without_validation_images_nothing_is_added():
    stack, every = perturbations.with_perturbed_split(StackedPixels({"a": images(1)}), rows(split=["train"]))
    assert len(stack) == len(every) == 1


def of_version_0_1(image: np.ndarray, seed: int) -> np.ndarray:
    """The copy as version 0.1 drew it: exposure, detail, noise and encoder, but no other framing."""
    rng = np.random.default_rng([seed, 8])

    def made() -> bool:
        return bool(rng.random() < 0.7)

    grey = image.astype(np.float32)
    if made():
        grey = 255 * (grey / 255) ** math.exp(rng.uniform(-0.5, 0.5))
        grey = (grey - grey.mean()) * rng.uniform(0.67, 1.33) + grey.mean() + rng.uniform(-25, 25)
    if made():
        side = max(1, round(len(image) * rng.uniform(0.5, 1)))
        few = Image.fromarray(grey).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
        grey = np.asarray(few.resize(image.shape[::-1], Image.Resampling.BICUBIC), dtype=np.float32)
    if made():
        soft = gaussian_filter(grey, rng.uniform(0.3, 1.0), mode="reflect")
        grey = soft if rng.random() < 0.5 else grey + rng.uniform(0.3, 1.5) * (grey - soft)
    if made():
        grey = grey + rng.uniform(0, 0.03) * 255 * rng.standard_normal(grey.shape)
    copy = np.clip(grey + 0.5, 0, 255).astype(np.uint8)
    if made():
        buffer = io.BytesIO()
        Image.fromarray(copy).save(buffer, format="JPEG", quality=int(rng.integers(20, 91)))
        copy = np.asarray(Image.open(buffer))
    return copy


def test_a_copy_of_what_is_framed_anew_has_the_very_pixels_that_version_0_1_drew():
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (180, 180), dtype=np.uint8)
    for seed in rng.integers(0, 2**48, 60).tolist():
        for image in (noise, images(1)[0]):
            framed = perturbations._framed_again(image, np.random.default_rng([seed, 9]))
            np.testing.assert_array_equal(perturbations.perturbed(image, seed), of_version_0_1(framed, seed))


def test_each_copy_is_told_and_what_that_raises_ends_the_work():
    told: list[tuple[int, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        told.append((done, total))
        if done == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        perturbations.with_perturbed_split(StackedPixels({"a": images(3)}), rows(split=["val"] * 3), progress=progress)
    assert told == [(0, 3), (1, 3)]
