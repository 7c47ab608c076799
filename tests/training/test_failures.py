"""Failures around a training: memory runs out, its dataset is removed. It ends with a sentence, or it continues."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxr_core.data import datasets, manifest, packing
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.run_store import Run
from cxr_core.training.batches import Batches
from cxr_core.training.callbacks import StatusCallback
from cxr_core.training.run_training import train_run
from tests.training.test_run_training import done, queued

EPOCHS = 3


@pytest.fixture
def tree(xray_tree: Callable[..., Path]) -> Path:
    place = xray_tree()
    datasets.add(str(place), "small")
    return place


@pytest.fixture
def run_id(tree: Path) -> str:
    """A queued run of three epochs on 13 images."""
    return queued(epochs=EPOCHS)


def after_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int, what: Callable[[], object]) -> None:
    """Let something happen when so many epochs are done."""
    usual = StatusCallback.on_epoch_end

    def then(watch: StatusCallback, number: int, logs: dict[str, Any] | None = None) -> None:
        usual(watch, number, logs)
        if number + 1 == epoch:
            what()

    monkeypatch.setattr(StatusCallback, "on_epoch_end", then)


def once_more(run_id: str) -> Run:
    """Resume a run as `runs resume` does, in this process."""
    place = runs.folder(run_id)
    states.write(place, replace(states.read(place), state="queued", reason="", ended=0.0))
    return done(run_id)


def out_of_memory(*_: object) -> None:
    raise MemoryError


def figures(run: Run) -> pd.DataFrame:
    return runs.history(run.id).drop(columns="seconds")


@pytest.mark.slow
def test_out_of_memory_in_the_fit_is_told_and_the_run_goes_on_to_the_same_result(run_id: str):
    unbroken = done(queued(epochs=EPOCHS, seed=0))
    with pytest.MonkeyPatch.context() as patch:
        after_epoch(patch, 2, out_of_memory)
        run = done(run_id)
    assert (run.status.state, run.status.epoch) == ("failed", 2)
    assert run.status.reason.startswith("The machine's memory is full.")
    run = once_more(run_id)
    assert (run.status.state, run.status.epoch, run.status.reason) == ("finished", EPOCHS, "")
    pd.testing.assert_frame_equal(figures(run), figures(unbroken), check_exact=True)
    assert run.metrics == unbroken.metrics


def test_out_of_memory_where_batches_are_made_is_told(run_id: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Batches, "__getitem__", out_of_memory)
    run = done(run_id)
    assert run.status.state == "failed"
    assert "memory is full. Try a smaller batch" in run.status.reason


def test_a_dataset_that_was_removed_while_its_run_was_queued_is_named(run_id: str):
    datasets.remove("small")
    run = done(run_id)
    assert (run.status.state, run.status.stage) == ("failed", "")
    assert run.status.reason.startswith("The dataset 'small' was removed")
    assert run.config.manifest in run.status.reason


@pytest.mark.slow
def test_what_the_sentence_says_brings_a_run_back_whose_dataset_was_removed(run_id: str, tree: Path):
    datasets.remove("small")
    done(run_id)
    datasets.add(str(tree), "small")
    assert manifest.build("small").id == runs.get(run_id).config.manifest
    assert once_more(run_id).status.state == "finished"


def test_a_dataset_that_is_removed_while_its_images_are_read_is_named(run_id: str, monkeypatch: pytest.MonkeyPatch):
    def stacked(*_: object, **__: object) -> None:
        datasets.remove("small")
        raise FileNotFoundError("images.npy")

    monkeypatch.setattr(packing, "open_stacked", stacked)
    assert done(run_id).status.reason.startswith("The dataset 'small' was removed")


@pytest.mark.slow
def test_a_training_whose_dataset_is_removed_goes_on_to_its_end(run_id: str, monkeypatch: pytest.MonkeyPatch):
    other = done(queued())
    after_epoch(monkeypatch, 1, lambda: datasets.remove("small"))
    run = done(run_id)
    assert datasets.list_names() == []
    assert (run.status.state, run.status.epoch, run.status.reason) == ("finished", EPOCHS, "")
    assert set(run.metrics) == {"train", "val", "test"}
    assert runs.get(other.id).metrics == other.metrics


@pytest.mark.slow
def test_a_stopped_run_whose_dataset_was_removed_is_not_resumed_to_nonsense(run_id: str, tree: Path):
    with pytest.MonkeyPatch.context() as patch:
        after_epoch(patch, 1, (runs.folder(run_id) / "stop").touch)
        assert done(run_id).status.state == "stopped"
    kept = (runs.folder(run_id) / "model.keras").read_bytes()
    datasets.remove("small")
    shutil.rmtree(tree)
    (runs.folder(run_id) / "stop").unlink()
    run = once_more(run_id)
    assert (run.status.state, run.has_model) == ("failed", True)
    assert "'small' was removed" in run.status.reason
    assert (run.folder / "model.keras").read_bytes() == kept


@pytest.mark.slow
def test_work_on_one_run_leaves_the_others_as_they_were(run_id: str, monkeypatch: pytest.MonkeyPatch):
    other = queued(seed=1)
    after_epoch(monkeypatch, 1, out_of_memory)
    train_run(run_id)
    assert (runs.get(run_id).status.state, runs.get(other).status.state) == ("failed", "queued")
