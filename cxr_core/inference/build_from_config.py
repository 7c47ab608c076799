"""The network that a run's settings describe. Needs Keras."""

import keras

from cxr_core.models import registry
from cxr_core.runs.config import RunConfig


def build(config: RunConfig, backbone: keras.Model | None = None, *, any_size: bool = False) -> keras.Model:
    """A network of its own, with fresh weights: images float32 (N, S, S, 3) in 0..255 to probabilities (N, classes).

    Args:
        backbone: with weights, to stand on; its layers become the network's.
        any_size: it takes images of any size, not only those of the run; needs a head that averages.
    """
    return registry.build(
        config.model,
        classes=len(config.classes),
        size=None if any_size else config.image_size,
        dropout=config.dropout,
        scaling=config.scaling,
        head=config.head,
        backbone=backbone,
        weights=config.weights,
    )
