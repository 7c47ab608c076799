"""The whole work of a run's process: prepare, fit, predict every split, and leave a status that says how it ended."""

import errno
import logging
import time
import traceback
from contextlib import suppress

import numpy as np
import pandas as pd

from cxr_core import process, workspace
from cxr_core.data import manifest as manifests
from cxr_core.data import packing, perturbations
from cxr_core.errors import CxrError, WorkFailed
from cxr_core.evaluation import metrics, predictions, rule_store
from cxr_core.inference import export, litert_model
from cxr_core.inference.input_check.checks import InputCheck
from cxr_core.inference.predictor import Predictor
from cxr_core.models import compact
from cxr_core.runs import run_store as runs
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run
from cxr_core.runs.status import Reporter
from cxr_core.training import checkpoint, devices, environment
from cxr_core.training.callbacks import StopRequested, raise_if_stop_requested
from cxr_core.training.feature_extraction import ExtractedFeatures
from cxr_core.training.fit import fit

_log = logging.getLogger(__name__)
_FEWEST, _MOST = 100, 6_000  # training images that an input check is fitted on; with fewer it would refuse at random


def train_run(run_id: str) -> None:
    """Train the run `run_id` in this process; how it ended is in its status, whatever happens."""
    run = runs.get(run_id)
    with Reporter(run.folder) as reporter:
        try:
            now = time.time()
            reporter.tell(
                state="running",
                stage="preparing",
                started=reporter.status.started or now,
                owner=process.process_id(),
                device=devices.describe(),
            )
            _log.info("Training of run %s begins on %s.", run.id, reporter.status.device)
            _train(run, reporter)
        except Exception as error:  # noqa: BLE001 - the last line of defence: the run must not look alive
            if not isinstance(error, CxrError | MemoryError):
                with suppress(OSError):  # on a full disk the log cannot grow either
                    traceback.print_exc()
            reporter.tell(state="failed", stage="", reason=_sentence(error, run.config), ended=time.time())
            _log.error("Training of run %s failed (%s).", run.id, type(error).__name__)
        else:
            _log.info("Training of run %s ended: %s.", run.id, reporter.status.state)


def _train(run: Run, reporter: Reporter) -> None:
    if not workspace.dataset(run.config.data).is_dir():
        raise WorkFailed(_removed(run.config))
    state, prepared, extracted = "finished", None, None
    try:
        prepared = _prepare(run, reporter)
        workspace.write_json(run.folder / "environment.json", environment.describe())
        result = fit(run.config, *prepared, run.folder, reporter)
        reason, extracted = result.reason, result.features
    except StopRequested:
        state = "stopped"
        epoch = reporter.status.epoch
        reason = f"Stopped by hand after {epoch} whole epoch{'' if epoch == 1 else 's'}; the best one is saved."
        if not run.has_model:
            reason = "Stopped by hand before the first epoch was done: there is no model to save."
        if not run.has_model or _has_current_predictions(run):
            reporter.tell(state=state, stage="", reason=reason, ended=time.time(), seconds_left=0.0)
            return
        # At once, not only when the saved model has answered for thousands of images.
        reporter.tell(state=state, reason=reason, ended=time.time())
    reporter.tell(stage="predicting", batch=0, batches=0, seconds_left=0.0)
    pixels, rows = prepared or _prepare(run, reporter)
    reporter.tell(batches=len(rows))
    if (whole := run.folder / runs.MODELS[0]).is_file():
        compact.compact_file(whole)  # before anything is computed with it
    predictor = Predictor.load(run.id)
    _predict(run, predictor, extracted, pixels, rows, reporter)
    reporter.tell(stage="exporting")
    for last in (_calibrate, lambda run: _ready(run, predictor, pixels, rows)):
        try:
            last(run)
        except CxrError as error:  # it can be made later, and the run answers without it till then
            print(error, flush=True)
    if state == "finished":
        checkpoint.clear(run.folder)
    reporter.tell(state=state, stage="", reason=reason, ended=time.time(), seconds_left=0.0)


def _prepare(run: Run, reporter: Reporter) -> tuple[packing.StackedPixels, pd.DataFrame]:
    """The packed images of a run's manifest, and its rows with column `place` (in those), perturbed copies included.

    Raises:
        StopRequested: someone asked the run to stop, and it has not been stopped yet.
        WorkFailed, UnknownName: the dataset or the manifest is gone or damaged.
    """
    config = run.config

    def progress(stage: str, done: int, total: int) -> None:  # noqa: ARG001 - the stage has a name of its own here
        if reporter.status.state != "stopped":
            raise_if_stop_requested(run.folder)
        reporter.tell(soon=True, batch=done, batches=total)

    progress("", 0, 0)
    rows = manifests.rows(manifests.get(config.data, config.manifest))
    pixels = packing.open_stacked(rows["data"].unique(), size=config.image_size, progress=progress)
    rows["place"] = pixels.places(rows["data"], rows["row"])
    if config.shifted:
        pixels, rows = perturbations.with_perturbed_split(pixels, rows, progress=progress)
    return pixels, rows


def _has_current_predictions(run: Run) -> bool:
    """True if the predictions of an earlier stop are those of the model that is there now."""
    figures = run.folder / "metrics.json"
    models = [run.folder / name for name in runs.MODELS if (run.folder / name).is_file()]
    return figures.is_file() and all(model.stat().st_mtime <= figures.stat().st_mtime for model in models)


def _calibrate(run: Run) -> None:
    if run.config.sensitivity:
        rule_store.save(run.id, rule_store.fit(run.id, target_sensitivity=run.config.sensitivity))


def prepare_for_prediction(run_id: str) -> float:
    """Make all that a live prediction by a run needs besides its model: the exported network, and its input check.

    Returns:
        The largest difference of a probability between the network and its export.

    Raises:
        UnknownName, BadInput, WorkFailed: as `export.export`.
    """
    run = runs.get(run_id)
    if run.is_bundled or litert_model.missing_backbone(
        run
    ):  # its input check is there already, and what ships is never changed
        return export.export(run_id)
    try:
        rows = manifests.rows(manifests.get(run.config.data, run.config.manifest))
        pixels = packing.open_stacked(rows["data"].unique(), size=run.config.image_size)
        rows["place"] = pixels.places(rows["data"], rows["row"])
    except CxrError:  # the dataset is gone: no input check, but an answer all the same
        return export.export(run_id)
    return _ready(run, Predictor.load(run_id), pixels, rows)


def _ready(run: Run, predictor: Predictor, pixels: packing.StackedPixels, rows: pd.DataFrame) -> float:
    rng = np.random.default_rng(0)
    seen = [rows.loc[(rows["split"] == split) & (rows["copy"] == 0), "place"].to_numpy() for split in ("train", "val")]
    few = [np.sort(rng.permutation(places)[:_MOST]) for places in seen]
    if len(few[0]) >= _FEWEST:
        InputCheck.fit(*(pixels[places] for places in few)).save(run.folder / "input_check.npz")
    return export.export(run.id, predictor)


def _predict(
    run: Run,
    predictor: Predictor,
    features: ExtractedFeatures | None,
    pixels: packing.StackedPixels,
    rows: pd.DataFrame,
    reporter: Reporter,
) -> None:
    """One predictions table per split, by the saved model, and their metrics."""
    config, folder = run.config, run.folder
    tables, before = {}, 0
    for split in ("train", "val", perturbations.SPLIT, "test"):
        chosen = rows[(rows["split"] == split) & (rows["copy"] == 0)]
        if chosen.empty:
            continue
        done = before

        def tell(count: int, done: int = done) -> None:
            reporter.tell(soon=True, batch=done + count)

        if features is None:
            probabilities = predictor.probabilities(pixels, rows=chosen["place"].to_numpy(), progress=tell)
        else:  # the backbone has seen these images already
            probabilities = predictor.of_features(features.values, features.places[chosen.index], progress=tell)
        tables[split] = predictions.prediction_table(
            chosen["id"], chosen["class"].astype(str), probabilities, config.classes
        )
        predictions.write(folder / "predictions" / f"{split}.parquet", tables[split])
        before += len(chosen)
    workspace.write_json(folder / "metrics.json", metrics.summary(tables, config.data))


def _sentence(error: Exception, config: RunConfig) -> str:
    if _is_full_disk(error) or _is_full_disk(error.__cause__):
        return "The disk is full. Free some space, then resume the run: it continues after its last whole epoch."
    if isinstance(error, MemoryError):
        return "The machine's memory is full. Try a smaller batch or image size, or end other programs."
    if isinstance(error, CxrError):
        return str(error)
    if devices.is_out_of_memory(error):
        return "The device's memory is full. Try a smaller batch or image size."
    if not workspace.dataset(config.data).is_dir():
        return _removed(config)
    return f"An unexpected error ended it ({type(error).__name__}: {str(error)[:300]}). The log has the details."


def _is_full_disk(error: BaseException | None) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)  # as h5py says it


def _removed(config: RunConfig) -> str:
    return (
        f"The dataset '{config.data}' was removed before this run had what it needs of it. Add it again and build its manifest "
        f"{config.manifest} again, then resume the run."
    )
