"""Augmentation of one image with NumPy: its limits, and the views that training draws with Keras (models/augmentation.py).

For eyes, for manifests that balance a class with augmented copies, and for features that are computed once. The same
operations make perturbed validation images (perturbations.py).
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, gaussian_filter

Pixels = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.floating]


@dataclass(frozen=True)
class AugmentationLimits:
    """Largest change of each kind; the names are those of `runs.config.RunConfig`.

    Attributes:
        rotation: degrees either way.
        translation: share of the side, both ways.
        zoom: share in or out.
        flip: mirror left and right, half the time.
        brightness: share of the grey range, up or down.
        contrast: share, up or down.
        gamma: exponent of the grey curve, e to this power either way.
        sharpness: blurred (below 0) or sharpened (above) by this share of the difference to the blurred image.
        noise: standard deviation of added noise, share of the grey range.
        stretch: wider or narrower by this share, at the same height.
        crop: a random resized crop shows at least this share of the area; 1: no crop.
        crop_aspect: width to height of the crop, by at most this factor either way (Szegedy et al., "Going deeper with
            convolutions", 2014, section 6: area from 0.08, aspect ratio 4/3).
        border: each border is blanked half the time, by at most this share of the side.
    """

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
    crop: float = 1.0
    crop_aspect: float = 4 / 3
    border: float = 0.0

    @classmethod
    def of(cls, settings: object) -> "AugmentationLimits":
        """Limits among the settings of a run."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})

    @property
    def moves(self) -> bool:
        """True if any of them moves the image, flips aside."""
        return bool(self.rotation or self.translation or self.zoom or self.stretch or self.crop < 1)


def augmented_view(image: Pixels, seed: int, limits: AugmentationLimits | None = None) -> Pixels:
    """One augmented view; the same seed gives the same view.

    Args:
        image: uint8 (S, S).
        seed: 0 or more.
        limits: by default those of `AugmentationLimits`.

    Returns:
        uint8 (S, S).
    """
    limits, rng = limits or AugmentationLimits(), np.random.default_rng(seed)
    angle = math.radians(rng.uniform(-limits.rotation, limits.rotation))
    right, down = rng.uniform(-limits.translation, limits.translation, 2)
    zoom = rng.uniform(-limits.zoom, limits.zoom)
    mirror = bool(rng.random() < 0.5) and limits.flip
    stretch = rng.uniform(-limits.stretch, limits.stretch) if limits.stretch else 0.0
    width = height = 1.0
    if limits.crop < 1:
        width, height, crop_right, crop_down = random_crop(limits.crop, limits.crop_aspect, rng)
        right, down = right + crop_right, down + crop_down
    grey: Grey = affine(
        image,
        angle=angle,
        right=right,
        down=down,
        zoom=zoom,
        mirror=mirror,
        stretch=stretch,
        width=width,
        height=height,
    )
    if limits.border:
        grey = blank_borders(grey, limits.border, rng)
    brightness = rng.uniform(-limits.brightness, limits.brightness)
    contrast = rng.uniform(-limits.contrast, limits.contrast)
    grey = adjust_contrast(np.clip(grey + brightness * 255, 0, 255), 1 + contrast)
    if limits.gamma:
        grey = adjust_gamma(grey, math.exp(rng.uniform(-limits.gamma, limits.gamma)))
    if limits.sharpness:
        grey = sharpen(grey, rng.uniform(-limits.sharpness, limits.sharpness), sigma=1.0)
    if limits.noise:
        grey = add_noise(grey, rng.uniform(0, limits.noise), rng)
    return to_pixels(grey)


def affine(
    image: npt.NDArray[np.generic],
    *,
    angle: float = 0.0,
    right: float = 0.0,
    down: float = 0.0,
    zoom: float = 0.0,
    mirror: bool = False,
    stretch: float = 0.0,
    width: float = 1.0,
    height: float = 1.0,
    border: str = "reflect",
) -> npt.NDArray[np.float32]:
    """Rotate, shift, zoom about the middle, stretch and mirror in one bilinear resampling.

    Args:
        image: uint8 or float (S, S) in 0..255.
        angle: radians.
        right, down: shares of the side.
        zoom: above 0 shows more than the image, below 0 less.
        mirror: left and right change places.
        stretch: above 0 bodies become narrower by about this share, below 0 wider; their height stays.
        width, height: shares of the sides that the view shows, its middle being shifted by `right` and `down`: a crop,
            resized.
        border: what lies beyond the image: "reflect", "nearest" or "constant" (black), as `scipy.ndimage` has them.

    Returns:
        float32 (S, S) in 0..255.
    """
    size = len(image)
    side, middle = (-1.0 if mirror else 1.0) * (1 + stretch) * width, (size - 1) / 2
    cos, sin = (1 + zoom) * math.cos(angle), (1 + zoom) * math.sin(angle)
    # Rows before columns: position in the source = matrix @ position in the view + offset.
    matrix = np.array([[height * cos, side * sin], [-height * sin, side * cos]])
    offset = np.array([middle + down * size, middle + right * size]) - matrix @ np.array([middle, middle])
    return np.asarray(
        affine_transform(image.astype(np.float32), matrix, offset, order=1, mode=border), dtype=np.float32
    )


def crop_sides(area: float, ratio: float) -> tuple[float, float]:
    """Width and height, shares of the sides, of a crop of this share of the area whose width is `ratio` times its height.

    What would be longer than the image is as long as the image.
    """
    return min(math.sqrt(area * ratio), 1.0), min(math.sqrt(area / ratio), 1.0)


def random_crop(least: float, aspect: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Width, height, and shift right and down of a random crop within the image, shares of the sides as `affine` takes them.

    Args:
        least: share of the area, up to 1.
        aspect: of width to height, at most this factor either way.
    """
    area, ratio = rng.uniform(least, 1), math.exp(rng.uniform(-math.log(aspect), math.log(aspect)))
    width, height = crop_sides(area, ratio)
    return width, height, rng.uniform(-1, 1) * (1 - width) / 2, rng.uniform(-1, 1) * (1 - height) / 2


def blank_borders(grey: Grey, limit: float, rng: np.random.Generator) -> Grey:
    """Each border black half the time, in a band of at most `limit` of the side. float (S, S)."""
    size = len(grey)
    widths = rng.uniform(0, limit, 4) * (rng.random(4) < 0.5)
    top, bottom, left, right = np.rint(widths * size).astype(int)
    blanked = np.zeros_like(grey)
    inside = (slice(top, size - bottom), slice(left, size - right))
    blanked[inside] = grey[inside]
    return blanked


def adjust_gamma(grey: Grey, exponent: float) -> Grey:
    """Grey curve: float (S, S) in 0..255, values outside are clipped first."""
    return 255 * (np.clip(grey, 0, 255) / 255) ** exponent


def adjust_contrast(grey: Grey, factor: float) -> Grey:
    """Contrast about the mean: float (S, S); values may leave 0..255."""
    return (grey - grey.mean()) * factor + grey.mean()


def sharpen(grey: Grey, amount: float, *, sigma: float) -> Grey:
    """Unsharp mask of a Gaussian of `sigma` pixels; an `amount` below 0 blurs. float (S, S)."""
    return grey + amount * (grey - gaussian_filter(grey, sigma, mode="reflect"))


def add_noise(grey: Grey, deviation: float, rng: np.random.Generator) -> Grey:
    """Gaussian noise; `deviation` is a share of the grey range. float (S, S)."""
    return grey + deviation * 255 * rng.standard_normal(grey.shape)


def to_pixels(grey: Grey) -> Pixels:
    """Rounded and clipped: float (S, S) to uint8 (S, S)."""
    return np.clip(grey + 0.5, 0, 255).astype(np.uint8)
