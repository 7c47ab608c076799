"""Train one model on one manifest by the settings of a run, and keep the epoch with the best validation accuracy."""

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.errors import WorkFailed
from cxr_core.models import augmentation, registry
from cxr_core.runs.config import RunConfig
from cxr_core.runs.status import Reporter
from cxr_core.training.batches import Batches
from cxr_core.training.watching import KeepBest, Watch


def fit(config: RunConfig, pixels: npt.NDArray[np.uint8], rows: pd.DataFrame, place: Path, reporter: Reporter) -> None:
    """Run the epochs; the folder gets `history.csv` and `model.keras` as they come.

    Args:
        config: the settings.
        pixels: uint8 (N, S, S), the packed images of the dataset.
        rows: of the manifest: columns `row`, `split`, `class`.
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
        class_weight=_class_weights(config, rows),
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


def _split(
    config: RunConfig, pixels: npt.NDArray[np.uint8], rows: pd.DataFrame, split: str, *, seed: int | None
) -> Batches:
    chosen = rows[rows["split"] == split]
    if chosen.empty:
        raise WorkFailed(
            f"The manifest has no {split} images, and training needs them. Build one with the patient split."
        )
    return Batches(
        pixels,
        chosen["row"].to_numpy(),
        codes(config, chosen["class"]),
        classes=len(config.classes),
        batch_size=config.batch_size,
        seed=seed,
    )


def _class_weights(config: RunConfig, rows: pd.DataFrame) -> dict[int, float] | None:
    """n / (k · n_c) for class c, scikit-learn's "balanced"; None if all count alike."""
    if config.class_weights == "none":
        return None
    counts = rows.loc[rows["split"] == "train", "class"].astype(str).value_counts()
    total = int(counts.sum())
    return {
        place: total / (len(counts) * int(counts[name])) for place, name in enumerate(config.classes) if name in counts
    }
