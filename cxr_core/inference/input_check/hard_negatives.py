"""Decoys: what is no upright frontal chest X-ray any more, made of a run's own images, for the input check to learn from.

Every function takes float32 (n, SIDE, SIDE) in 0..255 and a generator, and gives as many of the same kind. What has nothing to
do with X-rays at all is in synthetic_negatives.py.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from cxr_core.inference.input_check.synthetic_negatives import SIDE, Greys, Random, leaves, scenes, stretched

_PLACES = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


def moved(greys: Greys, rng: Random, *, angle: float, zoom: tuple[float, float], shift: float, stretch: float) -> Greys:
    """Each image turned, zoomed, shifted and stretched by chance.

    Args:
        greys: float32 (n, SIDE, SIDE).
        angle: at most so many degrees either way.
        zoom: from, to; above 1 shows a part, below 1 leaves a margin, which is black or goes on as the border.
        shift: at most this share of the side.
        stretch: at most this share between the two sides.
    """
    found = np.empty_like(greys)
    middle = (SIDE - 1) / 2
    for number, grey in enumerate(greys):
        turn = np.deg2rad(rng.uniform(-angle, angle))
        scale = np.exp(rng.uniform(*np.log(zoom)))
        wide = np.exp(rng.uniform(-stretch, stretch) / 2)
        cos, sin = np.cos(turn) / scale, np.sin(turn) / scale
        matrix = np.array([[cos * wide, -sin * wide], [sin / wide, cos / wide]])
        offset = middle - matrix @ (np.array([middle, middle]) + rng.uniform(-shift, shift, 2) * SIDE)
        mode = "constant" if rng.random() < 0.4 else "nearest"
        found[number] = ndimage.affine_transform(grey, matrix, offset, order=1, mode=mode)
    return found


def stood(greys: Greys, rng: Random) -> Greys:
    """The images on their side or on their head: float32 (n, SIDE, SIDE)."""
    turns = rng.integers(1, 4, len(greys))
    return np.stack([np.rot90(grey, turn) for grey, turn in zip(greys, turns, strict=True)]) if len(greys) else greys


def disfigured(greys: Greys, rng: Random) -> Greys:
    """What is no chest X-ray any more, made of each image: float32 (n, SIDE, SIDE)."""
    ways: tuple[Callable[[Greys, Random], Greys], ...] = (
        _negative, _negative, _part, _part, scrambled, shuffled, collages, swirled, _askew, _half, _with_stranger,
    )  # fmt: skip
    chosen = rng.integers(0, len(ways), len(greys))
    found = np.empty_like(greys)
    for number, way in enumerate(ways):
        found[chosen == number] = way(greys[chosen == number], rng)
    return found


def scrambled(greys: Greys, rng: Random) -> Greys:
    """The spectra of the images with the phases of noise."""
    phases = np.angle(np.fft.rfft2(rng.standard_normal(greys.shape)))
    return stretched(np.fft.irfft2(np.abs(np.fft.rfft2(greys)) * np.exp(1j * phases), s=(SIDE, SIDE)))


def shuffled(greys: Greys, rng: Random) -> Greys:
    """The images as a puzzle of 2 × 2 to 8 × 8 pieces, put together wrongly."""
    found = np.empty_like(greys)
    for number, grey in enumerate(greys):
        pieces = int(rng.choice([2, 4, 8]))
        side = SIDE // pieces
        parts = grey.reshape(pieces, side, pieces, side).swapaxes(1, 2).reshape(-1, side, side)
        order = (
            np.roll(rng.permutation(len(parts)), 1) if pieces > 2 else np.roll(np.arange(4), int(rng.integers(1, 4)))
        )
        found[number] = parts[order].reshape(pieces, pieces, side, side).swapaxes(1, 2).reshape(SIDE, SIDE)
    return found


def collages(greys: Greys, rng: Random) -> Greys:
    """Two or four images on one sheet, or one small image on an empty page."""
    found = np.empty_like(greys)
    half = SIDE // 2
    for number, grey in enumerate(greys):
        others = greys[rng.integers(0, len(greys), 4)]
        kind = rng.integers(0, 4)
        if kind == 0:
            found[number] = np.block(
                [[_reduced(others[0]), _reduced(others[1])], [_reduced(others[2]), _reduced(grey)]]
            )
        elif kind == 1:
            found[number] = np.hstack([grey[:, ::2], others[0][:, ::2]])
        elif kind == 2:
            found[number] = np.vstack([grey[::2], others[0][::2]])
        else:
            page = np.full((SIDE, SIDE), rng.choice([0.0, 40.0, 230.0, 255.0]), np.float32)
            top, left = rng.integers(0, half, 2)
            page[top : top + half, left : left + half] = _reduced(grey)
            found[number] = page
    return found


def swirled(greys: Greys, rng: Random) -> Greys:
    """The images bent beyond recognition by a smooth field."""
    found = np.empty_like(greys)
    for number, grey in enumerate(greys):
        size = rng.uniform(6, 12)
        bends = ndimage.gaussian_filter(rng.standard_normal((2, SIDE, SIDE)), (0, size, size)).astype(np.float32)
        bends *= rng.uniform(10, 18) / np.abs(bends).mean(axis=(1, 2), keepdims=True)
        places = _PLACES + bends
        found[number] = ndimage.map_coordinates(grey, places, order=1, mode="reflect")
    return found


def _negative(greys: Greys, _: Random) -> Greys:
    return 255 - greys


def _part(greys: Greys, rng: Random) -> Greys:
    return moved(greys, rng, angle=180, zoom=(2.2, 5.0), shift=0.35, stretch=0.2)


def _askew(greys: Greys, rng: Random) -> Greys:
    return (
        np.stack([ndimage.rotate(grey, rng.uniform(35, 325), reshape=False, order=1) for grey in greys])
        if len(greys)
        else greys
    )


def _half(greys: Greys, rng: Random) -> Greys:
    """One side of the chest alone, as wide as high: what a lateral view and a bad crop have in common."""
    found = np.empty_like(greys)
    for number, grey in enumerate(greys):
        wide = rng.uniform(0.42, 0.55) * (SIDE - 1)
        start = rng.choice([0.0, SIDE - 1 - wide])
        matrix, offset = np.array([[1.0, 0.0], [0.0, wide / (SIDE - 1)]]), (0.0, start)
        found[number] = ndimage.affine_transform(grey, matrix, offset, order=1, mode="nearest")
    return found


def _with_stranger(greys: Greys, rng: Random) -> Greys:
    if not len(greys):
        return greys
    half = len(greys) // 2
    others = np.concatenate([leaves(len(greys) - half, rng), scenes(half, rng)])
    share = rng.uniform(0.5, 0.8, (len(greys), 1, 1)).astype(np.float32)
    return (1 - share) * greys + share * others


def _reduced(grey: Greys) -> Greys:
    return grey.reshape(SIDE // 2, 2, SIDE // 2, 2).mean(axis=(1, 3))
