"""Shifted copies of validation images: the same bodies as another hospital, machine or file might have shown them.

Validation images come from where the training images come from, and share their exposure, sharpness and encoder; a network
that leans on those looks better on them than it is. Of shifted copies it has to read the lungs. They are drawn once from
fixed seeds, so all runs are chosen by the same ones.
"""

import hashlib
import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxr_core import images
from cxr_core.data.packing import StackedPixels
from cxr_core.data.progress import Progress, no_progress

SPLIT = "shifted"
_SHARE = 0.7  # of the images, how many each change is made to

Pixels = npt.NDArray[np.uint8]


def perturbed(image: Pixels, seed: int) -> Pixels:
    """One copy, uint8 (S, S) in and out; the same seed gives the same copy.

    Each change is made to seven images of ten: exposure (gamma 0.6 to 1.6, contrast and brightness by up to a third and a
    tenth), detail lost (half to all of the pixels, and back), blurred (up to 1 pixel) or sharpened, noise (up to 3 % of the
    grey range), JPEG (quality 20 to 90).
    """
    rng = np.random.default_rng([seed, 8])

    def made() -> bool:
        return bool(rng.random() < _SHARE)

    grey: npt.NDArray[np.floating] = image.astype(np.float32)
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
    found: Pixels = np.clip(grey + 0.5, 0, 255).astype(np.uint8)
    if made():
        found = images.read(images.encode(found, quality=int(rng.integers(20, 91))))
    return found


def with_perturbed_split(
    pixels: StackedPixels, rows: pd.DataFrame, *, progress: Progress = no_progress
) -> tuple[StackedPixels, pd.DataFrame]:
    """A shifted copy of every validation image, behind the others, as a split of its own.

    Args:
        pixels: the packed images.
        rows: of a manifest (its COLUMNS), with column `place` (in `pixels`).
        progress: told in images; what it raises ends the work.

    Returns:
        Both with the copies, which have a hash of their own; an image's copy depends on its file alone.
    """
    own = rows[(rows["split"].astype(str) == "val") & (rows["copy"] == 0)]
    hashes = [hashlib.sha256(f"{one} {SPLIT}".encode()).hexdigest() for one in own["sha256"]]
    copies: list[Pixels] = []
    for place, digest in zip(own["place"], hashes, strict=True):
        progress("Perturbing images", len(copies), len(own))
        copies.append(perturbed(pixels[np.array([place])][0], int(digest[:12], 16)))
    places = len(pixels) + np.arange(len(own))
    more = own.assign(split=SPLIT, sha256=hashes, place=places, view=0)
    every = pd.concat([rows.astype({"split": "str"}), more.astype({"split": "str"})], ignore_index=True)
    return (pixels.followed_by(np.stack(copies)) if copies else pixels), every
