"""The one door to heatmaps: where the engine can make one, an image gets it laid over; where not, there is none."""

import numpy as np

from cxr_core.errors import CxrError
from cxr_core.runs.folder import Run


def heatmap_of(run: Run, grey: np.ndarray, label: str) -> bytes | None:
    """Where a run looked for the class `label`, laid over the image.

    Args:
        grey: uint8 (H, W).

    Returns:
        A PNG of the same size, or None where there is no model, or none that can say.
    """
    if not run.has_model:
        return None
    from pages.ui import engine

    predictor = engine._predictor(run.id, run.status.ended)
    if not hasattr(predictor, "heatmap"):
        return None
    try:
        return overlay(grey, np.asarray(predictor.heatmap(grey, label), dtype=np.float32))
    except CxrError:
        return None


def overlay(grey: np.ndarray, heat: np.ndarray) -> bytes:
    """The heat over the image as a PNG, from dark violet over orange to light yellow; lightness alone says it too.

    Args:
        grey: uint8 (H, W).
        heat: float (h, w), 0 or more; scaled to its own largest.
    """
    from io import BytesIO

    from PIL import Image

    top = float(heat.max())
    share = np.clip(heat / top if top > 0 else heat, 0, 1)
    small = Image.fromarray((share * 255).astype(np.uint8)).resize(grey.shape[::-1], Image.Resampling.BICUBIC)
    strength = np.asarray(small, dtype=np.float32) / 255
    anchors = np.array([[13, 8, 135], [156, 23, 158], [237, 121, 83], [240, 249, 33]], dtype=np.float32)  # plasma
    warm = np.stack([np.interp(strength, np.linspace(0, 1, 4), anchors[:, channel]) for channel in range(3)], axis=-1)
    weight = (0.65 * strength)[..., None]
    mixed = (1 - weight) * grey[..., None] + weight * warm
    out = BytesIO()
    Image.fromarray(mixed.round().astype(np.uint8)).save(out, "PNG")
    return out.getvalue()
