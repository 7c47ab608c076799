"""Changed views of one image, as training shows them (models/augmentation.py), drawn without Keras: for eyes, and for
manifests that balance a class with changed copies.

Images are uint8 (S, S) in and out.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, gaussian_filter

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class AugmentationLimits:
    """How far a view may differ; the names and meanings are those of `runs.config.RunConfig`."""

    rotation: float = 7.0
    translation: float = 0.05
    zoom: float = 0.1
    flip: bool = True
    brightness: float = 0.1
    contrast: float = 0.1
    gamma: float = 0.0
    sharpness: float = 0.0
    noise: float = 0.0
    stretch: float = 0.0

    @classmethod
    def of(cls, settings: object) -> "AugmentationLimits":
        """The limits among the settings of a run."""
        return cls(**{one.name: getattr(settings, one.name) for one in fields(cls)})


def augmented_view(image: Pixels, seed: int, limits: AugmentationLimits | None = None) -> Pixels:
    """One changed view; the same seed gives the same view.

    Args:
        image: uint8 (S, S).
        seed: 0 or more.
        limits: by default those of `Limits`.
    """
    most, rng = limits or AugmentationLimits(), np.random.default_rng(seed)
    angle = math.radians(rng.uniform(-most.rotation, most.rotation))
    right, down = rng.uniform(-most.translation, most.translation, 2)
    zoom = rng.uniform(-most.zoom, most.zoom)
    mirror = bool(rng.random() < 0.5) and most.flip
    stretch = rng.uniform(-most.stretch, most.stretch) if most.stretch else 0.0
    moved = affine(image, angle=angle, right=right, down=down, zoom=zoom, mirror=mirror, stretch=stretch)
    brightness, contrast = rng.uniform(-most.brightness, most.brightness), rng.uniform(-most.contrast, most.contrast)
    lit = np.clip(moved + brightness * 255, 0, 255)
    lit = (lit - lit.mean()) * (1 + contrast) + lit.mean()
    if most.gamma:
        lit = 255 * (np.clip(lit, 0, 255) / 255) ** math.exp(rng.uniform(-most.gamma, most.gamma))
    if most.sharpness:
        lit = lit + rng.uniform(-most.sharpness, most.sharpness) * (lit - gaussian_filter(lit, 1.0, mode="reflect"))
    if most.noise:
        lit = lit + rng.uniform(0, most.noise) * 255 * rng.standard_normal(lit.shape)
    return np.clip(lit + 0.5, 0, 255).astype(np.uint8)


def affine(
    image: Pixels, *, angle: float, right: float, down: float, zoom: float, mirror: bool, stretch: float = 0.0
) -> npt.NDArray[np.float32]:
    """Rotate, shift, zoom about the middle, stretch and mirror in one bilinear resampling; beyond the border it is mirrored.

    Args:
        image: uint8 (S, S).
        angle: radians.
        right, down: shares of the side.
        zoom: above 0 shows more than the image, below 0 less.
        mirror: left and right change places.
        stretch: above 0 bodies become narrower by about this share, below 0 wider; their height stays.

    Returns:
        float32 (S, S) in 0..255.
    """
    size = len(image)
    side, middle = (-1.0 if mirror else 1.0) * (1 + stretch), (size - 1) / 2
    cos, sin = (1 + zoom) * math.cos(angle), (1 + zoom) * math.sin(angle)
    # rows then columns, as the array lies: place in the source = matrix @ place in the view + offset
    matrix = np.array([[cos, side * sin], [-sin, side * cos]])
    offset = np.array([middle + down * size, middle + right * size]) - matrix @ np.array([middle, middle])
    return np.asarray(
        affine_transform(image.astype(np.float32), matrix, offset, order=1, mode="reflect"), dtype=np.float32
    )
