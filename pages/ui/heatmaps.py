"""Where a run looked, laid over an image, for any page."""

from io import BytesIO

import numpy as np
from PIL import Image

from cxr_core.errors import CxrError
from cxr_core.inference import engine, heatmap
from cxr_core.runs.folder import Run

WIDEST = 1024  # pixels; a screen shows no more of an image beside its answer


def heatmap_of(run: Run, grey: np.ndarray, label: str, strength: float = heatmap.STRENGTH) -> bytes | None:
    """What speaks for the class `label`, laid over the image.

    Args:
        grey: uint8 (H, W).

    Returns:
        A JPEG of the same shape, at most WIDEST pixels a side, or None where there is no network that can say.
    """
    try:
        return laid_over(grey, engine.panel(run.id).relevance(grey, label), strength)
    except CxrError:
        return None


def laid_over(grey: np.ndarray, relevance: np.ndarray, strength: float) -> bytes:
    """The map over the image as a JPEG."""
    picture = Image.fromarray(grey)
    picture.thumbnail((WIDEST, WIDEST))
    out = BytesIO()
    Image.fromarray(heatmap.overlay(np.asarray(picture), relevance, strength)).save(out, "JPEG", quality=90)
    return out.getvalue()
