"""Overlay an attribution map on its image: dark violet, orange, light yellow, so that lightness says it too."""

import numpy as np
import numpy.typing as npt
from PIL import Image

STRENGTH = 0.65  # of the colour where the map is largest, unless asked otherwise
_PLASMA = np.array([[13, 8, 135], [156, 23, 158], [237, 121, 83], [240, 249, 33]], dtype=np.float32)


def overlay(
    grey: npt.NDArray[np.uint8], attribution: npt.NDArray[np.floating], strength: float = STRENGTH
) -> npt.NDArray[np.uint8]:
    """The image with the map over it.

    Args:
        grey: uint8 (H, W).
        attribution: float (h, w) of either sign; only what speaks for the class is shown, scaled to its own largest.
        strength: of the colour, 0 to 1.

    Returns:
        uint8 (H, W, 3).
    """
    top = max(float(attribution.max()), 0.0)
    share = np.clip(attribution / top, 0, 1) if top > 0 else np.zeros(attribution.shape)
    small = Image.fromarray((share * 255).astype(np.uint8)).resize(grey.shape[::-1], Image.Resampling.BICUBIC)
    shown = np.asarray(small, dtype=np.float32) / 255
    colour = np.stack([np.interp(shown, np.linspace(0, 1, 4), _PLASMA[:, channel]) for channel in range(3)], axis=-1)
    weight = (np.clip(strength, 0, 1) * shown)[..., None]
    mixed = (1 - weight) * grey[..., None] + weight * colour
    return np.asarray(mixed.round().astype(np.uint8))
