"""Train one model on one manifest by the settings of a run, and keep the epoch with the best validation accuracy."""

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.data.packing import Stack
from cxr_core.errors import WorkFailed
from cxr_core.models import augmentation, registry
from cxr_core.runs.config import RunConfig
from cxr_core.runs.status import Reporter
from cxr_core.training.batches import Batches
from cxr_core.training.watching import KeepBest, Watch


def fit(config: RunConfig, pixels: Stack, rows: pd.DataFrame, place: Path, reporter: Reporter) -> None:
    """Run the epochs; the folder gets `history.csv` and `model.keras` as they come.

    Args:
        config: the settings.
        pixels: the packed images of the manifest's datasets.
        rows: of the manifest: columns `place` (in `pixels`), `split`, `class`, `view`, `weight`.
        place: the run's folder.
        reporter: of the run's status.

    Raises:
        WorkFailed: a split that training needs is empty, or the loss is no number any more.
        StopRequested: someone asked the run to stop.
    """
    keras.utils.set_random_seed(config.seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    train = _split(config, pixels, rows, "train", seed=config.seed)
    val = _split(config, pixels, rows, "val", seed=None)
    core = registry.build(config.model, classes=len(config.classes), size=config.image_size, dropout=config.dropout)
    model = augmentation.training_model(
        core,
        size=config.image_size,
        seed=config.seed,
        rotation=config.rotation,
        translation=config.translation,
        zoom=config.zoom,
        flip=config.flip,
        moved=config.moved,
        brightness=config.brightness,
        contrast=config.contrast,
    )
    model.compile(
        optimizer=keras.optimizers.Adam(config.learning_rate), loss="categorical_crossentropy", metrics=["accuracy"]
    )
    images = int((rows["split"] == "train").sum())
    model.fit(
        train,
        validation_data=val,
        epochs=config.epochs,
        verbose=2,
        callbacks=[
            KeepBest(core, place),
            Watch(place, reporter, batches=len(train), images=images),
            keras.callbacks.TerminateOnNaN(),
        ],
    )
    if not (place / "model.keras").is_file():
        raise WorkFailed("The loss stopped being a number before an epoch was done. Try a lower learning rate.")


def codes(config: RunConfig, classes: pd.Series) -> npt.NDArray[np.int64]:
    """Class names to their numbers in the run's class order, int (n,)."""
    number = {name: place for place, name in enumerate(config.classes)}
    return np.asarray([number[name] for name in classes.astype(str)], dtype=np.int64)


def _split(config: RunConfig, pixels: Stack, rows: pd.DataFrame, split: str, *, seed: int | None) -> Batches:
    chosen = rows[rows["split"] == split]
    if chosen.empty:
        raise WorkFailed(
            f"The manifest has no {split} images, and training needs them. Build one with the patient split."
        )
    return Batches(
        pixels,
        chosen["place"].to_numpy(),
        codes(config, chosen["class"]),
        classes=len(config.classes),
        batch_size=config.batch_size,
        seed=seed,
        views=chosen["view"].to_numpy(),
        weights=_weights(config, chosen) if split == "train" else None,
    )


def _weights(config: RunConfig, chosen: pd.DataFrame) -> npt.NDArray[np.float64] | None:
    """Of each image in the loss: the manifest's, times n / (k · n_c) for class c ("balanced", as scikit-learn's).

    None if all count alike.
    """
    weights = chosen["weight"].to_numpy(dtype=np.float64, copy=True)
    if config.class_weights == "balanced":
        totals = chosen.groupby(chosen["class"].astype(str))["weight"].sum()
        weights *= chosen["class"].astype(str).map(totals.sum() / (len(totals) * totals)).to_numpy()
    return None if np.allclose(weights, 1) else weights
