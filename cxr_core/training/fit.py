"""Train one model on one manifest by the settings of a run, and keep its best epoch."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil

from cxr_core import workspace
from cxr_core.data import perturbations
from cxr_core.data.augment import AugmentationLimits
from cxr_core.data.packing import StackedPixels
from cxr_core.errors import WorkFailed
from cxr_core.inference import build_from_config, litert_model
from cxr_core.models import augmentation, catalogue, split_model, weights
from cxr_core.runs.config import RunConfig
from cxr_core.runs.status import Reporter
from cxr_core.training import checkpoint, devices, feature_extraction, trackers
from cxr_core.training.batches import Batches, BatchSource, FeatureIndexSource, FeatureSource, ImageSource
from cxr_core.training.callbacks import (
    HEAD_MODEL,
    MODEL,
    BestModelCheckpoint,
    EarlyStopping,
    ResumeCheckpoint,
    StatusCallback,
    raise_if_stop_requested,
)
from cxr_core.training.checkpoint import Checkpoint
from cxr_core.training.feature_extraction import ExtractedFeatures

_MAX_TABLE_BYTES = 2**30  # bytes of features that a network holds itself in training


@dataclass(frozen=True)
class FitResult:
    """Reason of an early end (empty without one), and the features, if a backbone was frozen."""

    reason: str
    features: ExtractedFeatures | None


def fit(config: RunConfig, pixels: StackedPixels, rows: pd.DataFrame, folder: Path, reporter: Reporter) -> FitResult:
    """Run the epochs; `history.csv` and the model are written to the folder after each.

    A training that was interrupted resumes after its last whole epoch, with the result that it would have had.

    Args:
        config: the settings.
        pixels: the packed images of the manifest's datasets.
        rows: of the manifest: columns `place` (in `pixels`), `data`, `row`, `split`, `class`, `view`, `weight`.
        folder: the run's folder.
        reporter: of the run's status.

    Raises:
        BadInput, WorkFailed: the starting weights cannot be had.
        WorkFailed: a split that training needs is empty, or the loss became NaN or infinite.
        StopRequested: someone asked the run to stop.
    """
    for split in ("train", "val"):
        if not (rows["split"] == split).any():
            raise WorkFailed(
                f"The manifest has no {split} images, and training needs them. Build one with the patient split."
            )
    keras.utils.set_random_seed(config.seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    cut_layer = catalogue.get(config.model).cut_layer(config.trained)
    state = checkpoint.read(folder)
    reporter.tell(epoch=state.epoch if state else 0)
    # One layer on features is too little work to be shared by several cards.
    with nullcontext() if cut_layer else devices.distribution_scope():
        return _fitted(config, cut_layer, pixels, rows, folder, reporter, state)


def _fitted(
    config: RunConfig,
    cut_layer: str,
    pixels: StackedPixels,
    rows: pd.DataFrame,
    folder: Path,
    reporter: Reporter,
    state: Checkpoint | None,
) -> FitResult:
    core = build_from_config.build(config, _backbone(config, folder, reporter))
    if not cut_layer:
        halves = devices.supports_half_precision() if config.precision == "auto" else None
        with devices.precision_scope(halves):
            learner = build_from_config.build(config, any_size=config.size_in_training < config.image_size)
            learner.set_weights(core.get_weights())
            model = augmentation.training_model(
                learner,
                AugmentationLimits.of(config),
                size=config.image_size,
                train_size=config.size_in_training,
                share=config.moved,
                seed=config.seed,
            )
        kept, features, path = core, None, folder / MODEL
        sources = _image_batches(pixels, rows)
    else:
        below, head = split_model.split(core, cut_layer)
        digest = feature_extraction.save_backbone(below)
        features = _features(config, below, digest, pixels, rows, folder, reporter)
        extraction = {
            "weights": config.weights,
            "features_made": features.extracted,
            "seconds": round(features.seconds, 1),
        }
        workspace.write_json(folder / "trunk.json", {**litert_model.about_backbone(config, digest), **extraction})
        learner, kept, path = head, keras.models.clone_model(head), folder / HEAD_MODEL
        model, sources = _feature_batches(config, features, rows, learner)
    keep = BestModelCheckpoint(learner, kept, path, by=config.keep)
    learning = _Learning(config, rows, sources, learner, model, keep, state)
    reason = learning.run(folder, reporter)
    if not path.is_file():
        raise WorkFailed("The loss stopped being a number before an epoch was done. Try a lower learning rate.")
    return FitResult(reason, features)


def class_codes(config: RunConfig, classes: pd.Series) -> npt.NDArray[np.int64]:
    """Numbers of class names in the run's class order, int (n,)."""
    number = {name: code for code, name in enumerate(config.classes)}
    return np.asarray([number[name] for name in classes.astype(str)], dtype=np.int64)


@dataclass
class _Learning:
    """The epochs of one run.

    `model` is fitted, `learner` the network in it whose layers are unfrozen, `state` the checkpoint to resume from.
    """

    config: RunConfig
    rows: pd.DataFrame
    sources: Callable[[str], BatchSource]
    learner: keras.Model
    model: keras.Model
    keep: BestModelCheckpoint
    state: Checkpoint | None

    def run(self, folder: Path, reporter: Reporter) -> str:
        """Run all phases; return why they ended early, or an empty text."""
        architecture, config = catalogue.get(self.config.model), self.config
        pretrained = config.weights != catalogue.SCRATCH
        phases = [(config.epochs, config.trained)]
        if 0 < config.head_epochs < config.epochs and config.trained != catalogue.HEAD and architecture.has_backbone:
            phases.insert(0, (config.head_epochs, catalogue.HEAD))
        status_callback = StatusCallback(folder, reporter, images=int((self.rows["split"] == "train").sum()))
        if self.state:
            self.keep.best = self.state.best
            self.config = replace(config, batch_size=self.state.batch_size)
        reason, began = "", 0
        for until, trained in phases:
            if not reason and reporter.status.epoch < until:
                split_model.unfreeze(self.learner, architecture, trained, pretrained=pretrained)
                self.keep.since = 0  # what is unfrozen now gets its own patience
                reason = self._phase(began, until, folder, status_callback, reporter)
            began = until
        return reason

    def _phase(self, began: int, until: int, folder: Path, status_callback: StatusCallback, reporter: Reporter) -> str:
        """Epochs `began` to `until`, with half the batch where the device's memory is too small."""
        while True:
            try:
                return self._epochs(began, until, folder, status_callback, reporter)
            except Exception as error:
                if not devices.is_out_of_memory(error) or self.config.batch_size == 1:
                    raise
                half = max(1, self.config.batch_size // 2)
                print(
                    f"The device's memory is full: batches of {half} instead of {self.config.batch_size}.", flush=True
                )
                self.config = replace(self.config, batch_size=half)

    def _epochs(self, began: int, until: int, folder: Path, status_callback: StatusCallback, reporter: Reporter) -> str:
        raise_if_stop_requested(folder)
        done = reporter.status.epoch
        train = self._batches("train", seed=self.config.seed, epoch=done)
        val = self._batches("val", seed=None, epoch=done)
        self.model.compile(
            optimizer=_optimizer(self.config, len(train), until - began),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=self.config.label_smoothing),
            metrics=["accuracy"],
        )
        last_phase = until == self.config.epochs  # the epochs of the head alone are all gone through
        patience = EarlyStopping(self.keep, self.config.patience if last_phase else 0)
        callbacks: list[Any] = [self.keep, patience, keras.callbacks.TerminateOnNaN()]
        if self.config.average:
            callbacks.append(keras.callbacks.SwapEMAWeights())
        callbacks += [*trackers.callbacks(self.config, folder), status_callback]
        callbacks += [ResumeCheckpoint(folder, self.keep, began=began, batch_size=self.config.batch_size)]
        status_callback.batches = len(train)
        self._restore(began, done, folder)
        if not patience.over:
            # Batches shuffle themselves, by the number of the epoch; Keras would shuffle them once more by a hidden state.
            self.model.fit(
                train,
                validation_data=val,
                initial_epoch=done,
                epochs=until,
                shuffle=False,
                verbose=2,
                callbacks=callbacks,
            )
        if patience.over:
            return f"Ended after epoch {reporter.status.epoch}: {self.config.patience} epochs in a row were no better."
        if reporter.status.epoch < until:
            return (
                f"The loss stopped being a number in epoch {reporter.status.epoch}; the best epoch before that is saved. "
                "Try a lower learning rate."
            )
        return ""

    def _restore(self, began: int, done: int, folder: Path) -> None:
        """Put back what the checkpoint holds, if this is the epoch that it was written after; once."""
        if self.state and self.state.epoch == done:
            same_phase = self.state.began == began
            checkpoint.restore(folder, self.state, self.model, optimizer=same_phase)
            self.keep.since = self.state.since if same_phase else 0
        self.state = None

    def _batches(self, split: str, *, seed: int | None, epoch: int) -> Batches:
        chosen = self.rows[_of(self.rows, split)]
        return Batches(
            self.sources(split),
            class_codes(self.config, chosen["class"]),
            classes=len(self.config.classes),
            batch_size=self.config.batch_size,
            seed=seed,
            weights=_weights(self.config, chosen) if split == "train" else None,
            epoch=epoch,
        )


def _of(rows: pd.DataFrame, split: str) -> npt.NDArray[np.bool_]:
    """bool (n,): which rows training takes for this split; shifted copies are validated on together with the images."""
    return rows["split"].isin((split, perturbations.SPLIT) if split == "val" else (split,)).to_numpy()


def _backbone(config: RunConfig, folder: Path, reporter: Reporter) -> keras.Model | None:
    if not catalogue.get(config.model).has_backbone:
        return None

    def tell(done: int, total: int) -> None:
        raise_if_stop_requested(folder)
        reporter.tell(soon=True, stage="downloading", batch=done >> 20, batches=total >> 20)

    return weights.load_backbone(
        config.model, size=config.image_size, scaling=config.scaling, weights=config.weights, progress=tell
    )


def _image_batches(pixels: StackedPixels, rows: pd.DataFrame) -> Callable[[str], BatchSource]:
    def of(split: str) -> BatchSource:
        chosen = rows[_of(rows, split)]
        return ImageSource(pixels, chosen["place"].to_numpy(), chosen["view"].to_numpy())

    return of


def _features(
    config: RunConfig,
    backbone: keras.Model,
    digest: str,
    pixels: StackedPixels,
    rows: pd.DataFrame,
    folder: Path,
    reporter: Reporter,
) -> ExtractedFeatures:
    def tell(done: int, total: int) -> None:
        raise_if_stop_requested(folder)
        reporter.tell(soon=True, stage="features", batch=done, batches=total)

    return feature_extraction.extract(config, backbone, digest, pixels, rows, tell)


def _feature_batches(
    config: RunConfig, features: ExtractedFeatures, rows: pd.DataFrame, learner: keras.Model
) -> tuple[keras.Model, Callable[[str], BatchSource]]:
    """The model to fit and its batches: row numbers of a table that the network holds, if that is small enough."""
    used, positions = np.unique(features.places, return_inverse=True)
    size = len(used) * features.values[:1].nbytes
    held = (
        size <= min(_MAX_TABLE_BYTES, psutil.virtual_memory().available // 4)
        and keras.backend.backend() == "tensorflow"
    )
    values = features.values[used] if held else features.values
    positions = positions.reshape(features.places.shape) if held else features.places
    kind = FeatureIndexSource if held else FeatureSource

    def of(split: str) -> BatchSource:
        rows_of_split = positions[_of(rows, split)]
        return kind(values, rows_of_split[:, : 1 + config.views if split == "train" else 1], seed=config.seed)

    return (split_model.with_feature_table(learner, values) if held else learner), of


def _optimizer(config: RunConfig, batches: int, epochs: int) -> keras.optimizers.Optimizer:
    """Adam for so many epochs of so many batches each."""
    return keras.optimizers.Adam(
        _rate(config, max(1, batches * epochs), round(config.warmup * batches)),
        weight_decay=config.weight_decay or None,
        use_ema=bool(config.average),
        ema_momentum=config.average or 0.99,
    )


def _rate(config: RunConfig, steps: int, warmup: int) -> Any:
    """The learning rate, a number or a schedule over so many steps; it rises over the first `warmup` of them."""
    warmup, schedules = min(warmup, steps - 1), keras.optimizers.schedules
    if config.schedule == "cosine":
        start = 0.0 if warmup else config.learning_rate
        return schedules.CosineDecay(
            start,
            steps - warmup,
            alpha=0.01,
            warmup_target=config.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if warmup:  # a decay upwards, which ends at the learning rate and stays there
        return schedules.PolynomialDecay(0.0, warmup, end_learning_rate=config.learning_rate)
    return config.learning_rate


def _weights(config: RunConfig, chosen: pd.DataFrame) -> npt.NDArray[np.float64] | None:
    """Of each image in the loss: the manifest's, times n / (k · n_c) for class c ("balanced", as scikit-learn's).

    None if all count alike.
    """
    weights_ = chosen["weight"].to_numpy(dtype=np.float64, copy=True)
    if config.class_weights == "balanced":
        totals = chosen.groupby(chosen["class"].astype(str))["weight"].sum()
        weights_ *= chosen["class"].astype(str).map(totals.sum() / (len(totals) * totals)).to_numpy()
    return None if np.allclose(weights_, 1) else weights_
