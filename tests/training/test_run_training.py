"""The work of a run's process: whatever happens, the status tells how it ended, and the saved files fit together."""

import errno
import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from filelock import FileLock

from cxr_core import images, workspace
from cxr_core.data import datasets, manifest, packing
from cxr_core.errors import UnknownName, WorkFailed
from cxr_core.evaluation import metrics, predictions
from cxr_core.inference.input_check.checks import InputCheck
from cxr_core.inference.predictor import Predictor
from cxr_core.models import registry, weights
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from cxr_core.runs.status import Reporter
from cxr_core.training import run_training as working
from cxr_core.training.callbacks import MODEL, StopRequested
from cxr_core.training.fit import FitResult
from cxr_core.training.run_training import train_run

Tree = Callable[..., Path]
IMAGES = {"train": 6, "val": 1, "test": 6}


@pytest.fixture
def tree(xray_tree: Tree) -> Path:
    return xray_tree()


@pytest.fixture
def run_id(tree: Path) -> str:
    """A queued run of one epoch on 13 images."""
    datasets.add(str(tree), "small")
    return queued()


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that keeps the network as it is built."""
    monkeypatch.setattr(working, "fit", keep_a_model)


def queued(**changes: Any) -> str:
    frozen = manifest.build("small")
    config = settings.make(
        model=changes.pop("model", "custom_cnn"),
        recipe="paper",
        data="small",
        manifest=frozen.id,
        classes=frozen.classes,
        settings={"image_size": 32, "epochs": 1, "batch_size": 4, **changes},
    )
    return runs.create(config)


def keep_a_model(config: Any, pixels: Any, rows: Any, place: Path, reporter: Reporter) -> FitResult:
    keras.utils.set_random_seed(3)
    registry.build(config.model, classes=len(config.classes), size=32, dropout=0.0).save(place / MODEL)
    reporter.tell(stage="training", epoch=config.epochs)
    return FitResult("", None)


def failing(error: BaseException) -> Callable[..., None]:
    def fit(*_: object) -> None:
        raise error

    return fit


def done(run_id: str) -> Run:
    train_run(run_id)
    return runs.get(run_id)


def tables(run_id: str) -> dict[str, pd.DataFrame]:
    return {path.stem: predictions.read(path) for path in (runs.folder(run_id) / "predictions").iterdir()}


def test_a_real_run_finishes_with_all_that_its_folder_promises(run_id: str):
    run = done(run_id)
    assert (run.status.state, run.status.stage, run.status.reason) == ("finished", "", "")
    assert (run.status.epoch, run.status.seconds_left) == (1, 0.0)
    assert run.status.device
    assert run.status.created <= run.status.ended <= time.time()
    assert run.has_predictions
    assert {one.name for one in run.folder.iterdir()} == {
        "config.json",
        "status.json",
        "environment.json",
        "history.csv",
        "model.keras",
        "predictions",
        "metrics.json",
        "export",
    }
    assert len(runs.history(run_id)) == 1
    assert json.loads((run.folder / "environment.json").read_bytes())["device"] == run.status.device


@pytest.mark.slow
@pytest.mark.usefixtures("instant")
def test_every_split_has_a_table_with_a_row_an_image_of_the_manifest(run_id: str):
    run = done(run_id)
    rows = manifest.rows(manifest.get("small", run.config.manifest))
    found = tables(run_id)
    assert {split: len(table) for split, table in found.items()} == IMAGES
    for split, table in found.items():
        assert list(table.columns) == ["id", "true", "p_normal", "p_viral", "p_bacterial"]
        chosen = rows[rows["split"] == split]
        assert table["id"].tolist() == chosen["id"].tolist()
        assert table["true"].tolist() == chosen["class"].tolist()


@pytest.mark.slow
@pytest.mark.usefixtures("instant")
def test_a_row_holds_what_the_model_says_of_that_very_file(run_id: str, tree: Path):
    done(run_id)
    predictor = Predictor.load(run_id)
    for table in tables(run_id).values():
        for row in table.to_dict("records"):
            prepared = images.prepare(images.read(tree / row["id"]), predictor.size)
            for name, probability in zip(predictor.classes, predictor.probabilities(prepared[None])[0], strict=True):
                assert row[f"p_{name}"] == pytest.approx(probability, abs=1e-6)


@pytest.mark.usefixtures("instant")
def test_the_log_says_how_a_training_ended_and_names_no_file(run_id: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "cxr_core")
    second = queued()
    done(run_id)
    shutil.rmtree(workspace.dataset("small"))
    done(second)
    begun, ended, again, failed = (record for record in caplog.records if record.name == working.__name__)
    assert begun.getMessage().startswith(f"Training of run {run_id} begins on ")
    assert ended.getMessage() == f"Training of run {run_id} ended: finished."
    assert again.getMessage().startswith(f"Training of run {second} begins on ")
    assert (failed.levelname, failed.getMessage()) == ("ERROR", f"Training of run {second} failed (WorkFailed).")
    assert ".jpeg" not in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("instant")
def test_metrics_are_those_that_the_evaluation_makes_of_the_tables(run_id: str):
    run = done(run_id)
    written = json.loads((run.folder / "metrics.json").read_bytes())
    assert list(written) == ["train", "val", "test"]
    assert written == run.metrics == metrics.summary(tables(run_id), run.config.data)
    assert {split: figures["n"] for split, figures in written.items()} == IMAGES


@pytest.mark.slow
@pytest.mark.usefixtures("instant")
def test_a_split_without_an_image_has_no_table(tree: Path):
    for path in (tree / "test").rglob("*.jpeg"):
        path.unlink()
    datasets.add(str(tree), "small")
    run = done(queued())
    assert run.status.state == "finished"
    assert sorted(tables(run.id)) == sorted(run.metrics) == ["train", "val"]


@pytest.mark.slow
@pytest.mark.usefixtures("instant")
def test_the_stages_are_told_in_their_order(run_id: str, monkeypatch: pytest.MonkeyPatch):
    stages: list[str] = []
    tell = Reporter.tell

    def note(reporter: Reporter, **changes: Any) -> None:
        tell(reporter, **changes)
        if stages[-1:] != [reporter.status.stage]:
            stages.append(reporter.status.stage)

    monkeypatch.setattr(Reporter, "tell", note)
    run = done(run_id)
    assert stages == ["preparing", "training", "predicting", "exporting", ""]
    assert (run.status.batch, run.status.batches) == (13, 13)


def test_a_stop_before_the_first_epoch_is_stopped_without_a_model(run_id: str):
    (runs.folder(run_id) / "stop").touch()
    run = done(run_id)
    assert (run.status.state, run.status.stage, run.status.epoch) == ("stopped", "", 0)
    assert run.status.reason == "Stopped by hand before the first epoch was done: there is no model to save."
    assert not run.has_predictions
    assert not (run.folder / MODEL).exists()


def stop_at(run_id: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the run to stop when its stage is told `moment` times."""
    tell = Reporter.tell
    stage, _, count = moment.partition(" ")
    seen: list[str] = []

    def note(reporter: Reporter, **changes: Any) -> None:
        tell(reporter, **changes)
        seen.append(reporter.status.stage)
        if seen.count(stage) == int(count):
            (runs.folder(run_id) / "stop").touch()

    monkeypatch.setattr(Reporter, "tell", note)


NO_MODEL = "Stopped by hand before the first epoch was done: there is no model to save."


@pytest.mark.parametrize("moment", ["preparing 1", "preparing 2", "preparing 4"])
def test_a_stop_while_images_are_prepared_is_a_stop(tree: Path, monkeypatch: pytest.MonkeyPatch, moment: str):
    datasets.add(str(tree), "small")
    run_id = queued(shifted=True)
    monkeypatch.setattr(packing, "_CHUNK", 4)  # so that there is a moment between two
    stop_at(run_id, moment, monkeypatch)
    monkeypatch.setattr(working, "fit", failing(AssertionError("it was fitted")))
    run = done(run_id)
    assert (run.status.state, run.status.stage, run.status.reason) == ("stopped", "", NO_MODEL)
    assert run.status.ended > 0
    assert not list((runs.folder(run_id)).glob(".part*"))


def test_a_stop_while_another_process_packs_the_images_does_not_wait_for_it(
    run_id: str, home: Path, monkeypatch: pytest.MonkeyPatch
):
    stop_at(run_id, "preparing 3", monkeypatch)
    folder = home / "datasets" / "small" / "packed"
    with FileLock(folder / ".32.lock"):
        assert done(run_id).status.state == "stopped"


def test_a_stop_while_weights_are_downloaded_does_not_wait_for_the_server(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    datasets.add(str(tree), "small")
    run_id = queued(model="vgg16", weights="imagenet")
    (tmp_path / "keras").mkdir()  # where it is missing, Keras downloads to /tmp/.keras
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "keras"))
    stop_at(run_id, "downloading 2", monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/weights.h5"
        monkeypatch.setattr("keras.src.applications.vgg16.WEIGHTS_PATH_NO_TOP", address)
        begun = time.monotonic()
        run = done(run_id)
        assert time.monotonic() - begun < weights.TIMEOUT_SECONDS
    assert (run.status.state, run.status.stage, run.status.reason) == ("stopped", "", NO_MODEL)


@pytest.fixture
def stopped(run_id: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run that was stopped after three epochs, and is prepared once more."""

    def fit(*given: Any) -> None:
        keep_a_model(*given)
        given[-1].tell(epoch=3)
        raise StopRequested

    monkeypatch.setattr(working, "fit", fit)
    assert done(run_id).has_predictions
    monkeypatch.setattr(working, "fit", failing(AssertionError("it was fitted")))
    (runs.folder(run_id) / "stop").touch()
    return run_id


@pytest.mark.slow
def test_a_stop_while_a_run_that_goes_on_is_prepared_leaves_what_it_had(stopped: str, monkeypatch: pytest.MonkeyPatch):
    before = (runs.folder(stopped) / "metrics.json").stat().st_mtime_ns
    run = done(stopped)
    assert (run.status.state, run.status.stage) == ("stopped", "")
    assert run.status.reason == "Stopped by hand after 3 whole epochs; the best one is saved."
    assert (run.folder / "metrics.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_stop_while_a_run_that_goes_on_is_prepared_predicts_by_a_model_that_has_not_yet(stopped: str):
    folder = runs.folder(stopped)
    shutil.rmtree(folder / "predictions")
    (folder / "metrics.json").unlink()
    run = done(stopped)
    assert (run.status.state, run.status.stage) == ("stopped", "")
    assert run.has_predictions
    assert {split: len(table) for split, table in tables(stopped).items()} == IMAGES


@pytest.mark.slow
def test_a_stop_later_keeps_the_best_model_with_its_predictions(run_id: str, monkeypatch: pytest.MonkeyPatch):
    def fit(*given: Any) -> None:
        keep_a_model(*given)
        given[-1].tell(epoch=3)
        raise StopRequested

    monkeypatch.setattr(working, "fit", fit)
    run = done(run_id)
    assert (run.status.state, run.status.stage) == ("stopped", "")
    assert run.status.reason == "Stopped by hand after 3 whole epochs; the best one is saved."
    assert {split: len(table) for split, table in tables(run_id).items()} == IMAGES
    assert run.has_predictions


def test_a_run_that_ended_early_says_why_and_has_finished(run_id: str, monkeypatch: pytest.MonkeyPatch):
    def fit(*given: Any) -> FitResult:
        keep_a_model(*given)
        return FitResult("Ended after epoch 1: it was enough.", None)

    monkeypatch.setattr(working, "fit", fit)
    run = done(run_id)
    assert (run.status.state, run.status.reason) == ("finished", "Ended after epoch 1: it was enough.")
    assert run.has_predictions


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FULL, "The disk is full. Free some space, then resume the run: it continues after its last whole epoch."),
        (MemoryError(), "The machine's memory is full. Try a smaller batch or image size, or end other programs."),
        (RuntimeError("OOM when allocating tensor"), "The device's memory is full. Try a smaller batch or image size."),
        (
            tf.errors.ResourceExhaustedError(None, None, "failed to allocate memory"),
            "The device's memory is full. Try a smaller batch or image size.",
        ),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."),
            "The device's memory is full. Try a smaller batch or image size."),
        (
            KeyError("fault"),
            "An unexpected error ended it (KeyError: 'fault'). The log has the details.",
        ),
        (
            OSError(errno.EACCES, "Permission denied"),
            "An unexpected error ended it (PermissionError: [Errno 13] Permission denied). The log has the details.",
        ),
        (WorkFailed("These very words."), "These very words."),
        (
            FileNotFoundError("/home/me/CLASSROOM/x.npy"),
            "An unexpected error ended it (FileNotFoundError: /home/me/CLASSROOM/x.npy). The log has the details.",
        ),
    ],
)  # fmt: skip
def test_a_run_that_breaks_has_failed_with_a_sentence(
    run_id: str, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
):
    monkeypatch.setattr(working, "fit", failing(error))
    run = done(run_id)
    assert (run.status.state, run.status.stage, run.status.reason) == ("failed", "", reason)
    assert run.status.created <= run.status.ended <= time.time()
    assert not run.has_predictions


def test_the_message_of_an_unexpected_error_is_cut(run_id: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(working, "fit", failing(ValueError("x" * 10_000)))
    assert len(done(run_id).status.reason) < 400


def test_the_log_has_the_traceback_of_an_unexpected_error(
    run_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(working, "fit", failing(ValueError("fault")))
    done(run_id)
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "ValueError: fault" in printed


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' always full device")
def test_a_disk_that_is_full_when_the_model_is_written_is_told(run_id: str):
    (runs.folder(run_id) / f".part.{MODEL}").symlink_to("/dev/full")
    run = done(run_id)
    assert (run.status.state, run.status.reason[:17]) == ("failed", "The disk is full.")
    assert not (run.folder / MODEL).exists()


@pytest.mark.usefixtures("instant")
def test_an_error_after_the_fit_fails_the_run_and_keeps_the_model(run_id: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(predictions, "write", failing(WorkFailed("Could not write it.")))
    run = done(run_id)
    assert (run.status.state, run.status.reason, run.has_predictions) == ("failed", "Could not write it.", False)
    assert (run.folder / MODEL).is_file()


def test_a_manifest_that_has_gone_is_told_in_words(run_id: str, home: Path):
    for path in (home / "datasets/small/manifests").iterdir():
        path.unlink()
    run = done(run_id)
    assert run.status.state == "failed"
    assert "no manifest of 'small'" in run.status.reason


def test_images_that_have_gone_are_told_in_words(run_id: str, tree: Path):
    (tree / "test/NORMAL/IM-0001-0001.jpeg").unlink()
    run = done(run_id)
    assert run.status.state == "failed"
    assert "can no longer be read" in run.status.reason


@pytest.mark.slow
def test_images_are_packed_at_the_size_of_the_run(run_id: str, monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []

    def fit(config: Any, pixels: Any, rows: Any, *others: Any) -> FitResult:
        seen.extend([pixels.shape, len(rows)])
        return keep_a_model(config, pixels, rows, *others)

    monkeypatch.setattr(working, "fit", fit)
    done(run_id)
    assert seen == [(13, 32, 32), 13]


def test_an_unknown_run_is_answered_with_the_known_ones(run_id: str):
    with pytest.raises(UnknownName, match=run_id):
        train_run("other")


@pytest.mark.slow
def test_a_run_on_enough_images_gets_a_gate_of_its_own(monkeypatch: pytest.MonkeyPatch):
    datasets.add("synthetic", "drawn", images=180)
    frozen = manifest.build("drawn", split="patient")
    monkeypatch.setattr(working, "fit", keep_a_model)
    config = settings.make(
        model="custom_cnn", recipe="paper", data="drawn", manifest=frozen.id, classes=frozen.classes,
        settings={"image_size": 32, "epochs": 1},
    )  # fmt: skip
    run = done(runs.create(config))
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    assert any(one.refuses for one in InputCheck.load(run.folder / "input_check.npz").check(noise, size=32))
