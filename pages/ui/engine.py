"""The lazy door to the models: TensorFlow is imported when the first prediction is asked for, not before."""

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

if TYPE_CHECKING:
    from cxr_core.inference.predictor import Predictor


@st.cache_resource(max_entries=2, show_spinner=False)
def _predictor(run_id: str, ended: float) -> "Predictor":  # noqa: ARG001 - part of the key
    from cxr_core.inference.predictor import Predictor

    return Predictor.load(run_id)


def predict(run_id: str, ended: float, grey: np.ndarray) -> dict[str, float]:
    """Probability of each class for a decoded image, uint8 (H, W), by the model of a run that ended at `ended`."""
    return _predictor(run_id, ended).of_image(grey)
