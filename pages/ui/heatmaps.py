"""Heatmaps over images, for any page."""

import base64
from io import BytesIO

import numpy as np
import streamlit as st
from PIL import Image

from cxr_core.data import datasets
from cxr_core.data.datasets import Dataset
from cxr_core.errors import CxrError
from cxr_core.inference import heatmap, predict
from cxr_core.runs.run_store import Run
from pages.ui import cached_data

WIDEST = 1024  # pixels; a screen shows no more of an image beside its answer


def heatmap_of(run: Run, grey: np.ndarray, label: str, strength: float = heatmap.STRENGTH) -> bytes | None:
    """Compute the heatmap for the class `label` over an image.

    Args:
        grey: uint8 (H, W).

    Returns:
        A JPEG of the same shape, at most WIDEST pixels a side, or None where no network can be loaded.
    """
    try:
        return laid_over(grey, predict.load(run.id).attribution(grey, label), strength)
    except CxrError:
        return None


def thumbnail(run: Run, dataset: Dataset, row: int, label: str) -> str:
    """A thumbnail of row `row` of the index with the heatmap for the class over it, as a data address.

    It is the plain thumbnail where no network can be loaded.
    """
    return _thumbnail(run.id, run.status.ended, dataset.name, dataset.version, row, label)


@st.cache_data(max_entries=2_000, show_spinner=False)
def _thumbnail(run_id: str, ended: float, name: str, version: str, row: int, label: str) -> str:  # noqa: ARG001
    dataset = datasets.get(name)
    grey = cached_data.pixels_of(dataset, row)
    try:
        attribution = predict.load(run_id).attribution(grey, label)
    except CxrError:
        return cached_data.thumbnail(dataset, row)
    picture = laid_over(cached_data.marked_synthetic(name, grey), attribution, heatmap.STRENGTH)
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def laid_over(grey: np.ndarray, attribution: np.ndarray, strength: float) -> bytes:
    """The map over the image as a JPEG."""
    picture = Image.fromarray(grey)
    picture.thumbnail((WIDEST, WIDEST))
    out = BytesIO()
    Image.fromarray(heatmap.overlay(np.asarray(picture), attribution, strength)).save(out, "JPEG", quality=90)
    return out.getvalue()
