"""The protocol of the results: nothing that is learned, chosen or fitted reads the test split."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr_core.data import datasets, manifest, packing
from cxr_core.data.packing import StackedPixels
from cxr_core.evaluation import decision_metrics, decision_rule, ensembles, prediction_set, predictions, rule_store
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.training import run_training as working
from cxr_core.training.run_training import train_run


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, set[int]]]:
    """Places of packed images that were read, by what the run was doing: "before" its predictions, or "predicting"."""
    seen: dict[str, set[int]] = {"before": set(), "predicting": set()}
    now = ["before"]
    read, predict, ready = StackedPixels.__getitem__, working._predict, working._ready

    def reading(self: StackedPixels, places: Any) -> Any:
        seen[now[0]] |= set(np.asarray(places).tolist())
        return read(self, places)

    def during(stage: str, work_: Any) -> Any:
        def run(*arguments: Any) -> Any:
            now[0] = stage
            return work_(*arguments)

        return run

    monkeypatch.setattr(StackedPixels, "__getitem__", reading)
    monkeypatch.setattr(working, "_predict", during("predicting", predict))
    monkeypatch.setattr(working, "_ready", during("before", ready))
    yield seen


def trained(images: int, **changes: Any) -> str:
    datasets.add("synthetic", "phantoms", images=images)
    frozen = manifest.build("phantoms", split="patient")
    config = settings.make(
        model="custom_cnn", recipe="tuned", data="phantoms", manifest=frozen.id, classes=frozen.classes,
        settings={"image_size": 64, "epochs": 1, "batch_size": 16, **changes},
    )  # fmt: skip
    run_id = runs.create(config)
    train_run(run_id)
    assert runs.get(run_id).status.state == "finished", runs.log(run_id)
    return run_id


def places_of(run_id: str, *splits: str) -> set[int]:
    rows = manifest.rows(manifest.get("phantoms", runs.get(run_id).config.manifest))
    places = packing.open_stacked(["phantoms"], size=64).places(rows["data"], rows["row"])
    return set(places[rows["split"].isin(splits)].tolist())


@pytest.mark.slow
def test_a_run_reads_test_images_for_its_predictions_only(looked_at: dict[str, set[int]]):
    run_id = trained(150)  # enough for a gate
    test = places_of(run_id, "test")
    assert len(test) >= 20 and not looked_at["before"] & test
    assert places_of(run_id, "train", "val") <= looked_at["before"]
    assert test <= looked_at["predicting"]


@pytest.mark.slow
def test_shifted_copies_are_validated_on_and_have_their_own_table():
    run_id = trained(60, test_flip=False)
    val, shifted = (predictions.read(runs.predictions_path(run_id, split)) for split in ("val", "shifted"))
    assert val["id"].tolist() == shifted["id"].tolist() and val["true"].tolist() == shifted["true"].tolist()
    assert np.abs(predictions.probabilities(val) - predictions.probabilities(shifted)).max() > 1e-3
    right = sum(float((predictions.predicted(one) == one["true"]).mean()) for one in (val, shifted)) / 2
    assert runs.history(run_id)["val_accuracy"].iloc[-1] == pytest.approx(right, abs=1e-6)


@pytest.mark.slow
def test_tuned_saves_a_decision_rule_that_finds_what_the_recipe_asks_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decision_rule, "MIN_IMAGES", 5)
    run_id = trained(60, sensitivity=0.8)
    rule = rule_store.saved(run_id)
    assert rule is not None and rule.temperature != 1 and rule.target_sensitivity == 0.8
    for split in rule.splits:
        found, n = decision_metrics.count(prediction_set.read(run_id, split), rule)["sensitivity"]
        assert found / n >= 0.8


FITTED: dict[str, Callable[[str, str], object]] = {
    "highest probability": lambda run_id, _: rule_store.fit(run_id, min_images=5),
    "threshold by hand": lambda run_id, _: rule_store.fit(run_id, min_images=5, threshold=0.5),
    "target sensitivity": lambda run_id, _: rule_store.fit(run_id, min_images=5, target_sensitivity=0.95),
    "reject threshold": lambda run_id, _: rule_store._of_run.cache_clear() or rule_store.of_run(run_id),
    "weights": lambda run_id, other: ensembles.of_run(ensembles.create([run_id, other], "weighted")).weights,  # type: ignore[union-attr]
}


@pytest.mark.parametrize("what", FITTED)
def test_what_is_fitted_afterwards_does_not_learn_from_the_test_split(
    trained_home: Path, what: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(decision_rule, "MIN_IMAGES", 5)
    run_id = runs.list_ids()[0]
    other = f"{run_id[:-3]}fff"
    shutil.copytree(runs.folder(run_id), runs.folder(run_id).with_name(other))
    wrong(other, "val")  # so that the two are no equals
    before = FITTED[what](run_id, other)
    for one in (run_id, other):
        wrong(one, "test")
    assert FITTED[what](run_id, other) == before


def wrong(run_id: str, split: str) -> None:
    """Turn the answers of a run upside down."""
    path = runs.predictions_path(run_id, split)
    table = predictions.read(path)
    turned = predictions.probabilities(table)[:, ::-1]
    predictions.write(
        path, predictions.prediction_table(table["id"], table["true"], turned, predictions.classes(table))
    )
