"""Perturbed copies of validation images: the same bodies as another hospital, machine or file might have shown them.

Validation images come from where the training images come from, and share their exposure, sharpness and encoder; a network
that leans on those looks better on them than it is. Of perturbed copies it has to read the lungs. They are drawn once from
fixed seeds, so that all runs are chosen by the same ones. That framing belongs to them is measured: docs/experiments.md.
"""

import hashlib
import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxr_core import images
from cxr_core.data.augment import (
    Grey,
    add_noise,
    adjust_contrast,
    adjust_gamma,
    affine,
    blank_borders,
    random_crop,
    sharpen,
    to_pixels,
)
from cxr_core.data.packing import StackedPixels
from cxr_core.data.progress import Progress, no_progress

SPLIT = "shifted"
_SHARE = 0.7  # of the images, that each change is made to

Pixels = npt.NDArray[np.uint8]


def perturbed(image: Pixels, seed: int) -> Pixels:
    """One perturbed copy, uint8 (S, S) in and out; the same seed gives the same copy.

    Each change is made to seven images of ten: framing (a crop of half to all of the area, its width to height changed by up
    to 4/3), borders (each blanked half the time, by up to a tenth of the side), exposure (gamma 0.6 to 1.6, contrast and
    brightness by up to a third and a tenth), detail lost (half to all of the pixels, and back), blurred (up to 1 pixel) or
    sharpened, noise (up to 3 % of the grey range), JPEG (quality 20 to 90).
    """
    return _taken_again(_framed_again(image, np.random.default_rng([seed, 9])), np.random.default_rng([seed, 8]))


def _framed_again(image: Pixels, rng: np.random.Generator) -> Pixels:
    if _chance(rng):
        width, height, right, down = random_crop(0.5, 4 / 3, rng)
        image = to_pixels(affine(image, right=right, down=down, width=width, height=height))
    if _chance(rng):
        image = to_pixels(blank_borders(image.astype(np.float32), 0.1, rng))
    return image


def _taken_again(image: Pixels, rng: np.random.Generator) -> Pixels:
    grey: Grey = image.astype(np.float32)
    if _chance(rng):
        grey = adjust_gamma(grey, math.exp(rng.uniform(-0.5, 0.5)))
        grey = adjust_contrast(grey, rng.uniform(0.67, 1.33)) + rng.uniform(-25, 25)
    if _chance(rng):
        grey = _with_lost_detail(grey, rng.uniform(0.5, 1))
    if _chance(rng):
        sigma = rng.uniform(0.3, 1.0)
        blur = rng.random() < 0.5
        grey = (
            gaussian_filter(grey, sigma, mode="reflect") if blur else sharpen(grey, rng.uniform(0.3, 1.5), sigma=sigma)
        )
    if _chance(rng):
        grey = add_noise(grey, rng.uniform(0, 0.03), rng)
    pixels = to_pixels(grey)
    if _chance(rng):
        pixels = images.read(images.encode(pixels, quality=int(rng.integers(20, 91))))
    return pixels


def _chance(rng: np.random.Generator) -> bool:
    return bool(rng.random() < _SHARE)


def _with_lost_detail(grey: Grey, share: float) -> Grey:
    """Reduced to a share of its side and enlarged again, float (S, S)."""
    side = max(1, round(len(grey) * share))
    reduced = Image.fromarray(grey).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(reduced.resize(grey.shape[::-1], Image.Resampling.BICUBIC), dtype=np.float32)


def with_perturbed_split(
    pixels: StackedPixels, rows: pd.DataFrame, *, progress: Progress = no_progress
) -> tuple[StackedPixels, pd.DataFrame]:
    """Add a perturbed copy of every validation image, behind the others, as a split of its own.

    Args:
        pixels: the packed images.
        rows: of a manifest (its COLUMNS), with column `place` (in `pixels`).
        progress: counts images; what it raises ends the work.

    Returns:
        Both with the copies, which have a hash of their own; an image's copy depends on its file alone.
    """
    originals = rows[(rows["split"].astype(str) == "val") & (rows["copy"] == 0)]
    hashes = [hashlib.sha256(f"{sha256} {SPLIT}".encode()).hexdigest() for sha256 in originals["sha256"]]
    copies: list[Pixels] = []
    for position, digest in zip(originals["place"], hashes, strict=True):
        progress("Perturbing images", len(copies), len(originals))
        copies.append(perturbed(pixels[np.array([position])][0], int(digest[:12], 16)))
    positions = len(pixels) + np.arange(len(originals))
    added = originals.assign(split=SPLIT, sha256=hashes, place=positions, view=0)
    table = pd.concat([rows.astype({"split": "str"}), added.astype({"split": "str"})], ignore_index=True)
    return (pixels.followed_by(np.stack(copies)) if copies else pixels), table
