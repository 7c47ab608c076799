"""JAX in TensorFlow's place: the same command trains, keeps and predicts, and what it kept answers the same on TensorFlow."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cxr_core.data import index, packing
from cxr_core.evaluation import predictions
from cxr_core.inference.predictor import Predictor
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from tests.conftest import PROJECT, command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed."),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="These tests compare JAX with TensorFlow."),
]

SIZE, IMAGES = 32, 40
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "custom_cnn": ("custom_cnn", {"trained": "all", "gamma": 0.3, "sharpness": 0.5, "noise": 0.02}, "model.keras"),
    "vgg16 head": ("vgg16", {"weights": "none", "trained": "head", "learning_rate": 0.01}, "head.keras"),
    "vgg16 last block": (
        "vgg16",
        {
            **{"weights": "none", "trained": "last_block", "head_epochs": 1, "average": 0.5, "views": 1},
            **{"schedule": "cosine", "test_flip": True, "class_weights": "balanced", "learning_rate": 0.001},
        },
        "head.keras",
    ),
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("jax") / "home"
    done = command("data", "add", "synthetic", "--name", "phantoms", "--images", IMAGES, home=place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module", params=list(CASES))
def trained_on_jax(request: pytest.FixtureRequest, workplace: Path) -> tuple[Path, str, str]:
    """A run of two epochs on JAX: its workspace, its id and the file that it has kept."""
    model, changes, file = CASES[request.param]
    settings = [f"--set={name}={value}" for name, value in {"image_size": SIZE, "batch_size": 8, **changes}.items()]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KERAS_BACKEND", "jax")
        done = command(
            *("train", "--data", "phantoms", "--model", model, "--epochs", 2, *settings, "--wait", "--json"),
            home=workplace,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return workplace, json.loads(done.stdout)["run"], file


@pytest.fixture
def run(trained_on_jax: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CXR_HOME", str(trained_on_jax[0]))
    return runs.get(trained_on_jax[1])


def pixels_of(run: Run, split: str) -> tuple[Any, np.ndarray]:
    """The images of a split, and what the run on JAX said of them."""
    table = predictions.read(run.folder / "predictions" / f"{split}.parquet")
    ids = index.column("phantoms", "id").astype(str).tolist()
    rows = np.array([ids.index(one) for one in table["id"]])
    said = table[[f"p_{name}" for name in run.config.classes]].to_numpy()
    return packing.open_packed("phantoms", size=SIZE)[rows], said


def test_a_run_on_jax_finishes_with_all_that_belongs_to_it(run: Run, trained_on_jax: tuple[Path, str, str]):
    assert (run.status.state, run.status.reason) == ("finished", "")
    assert (run.folder / trained_on_jax[2]).is_file()
    assert json.loads((run.folder / "environment.json").read_bytes())["backend"] == "jax"
    history = runs.history(run.id)
    assert history["epoch"].tolist() == [1, 2]
    assert np.isfinite(history.to_numpy()).all()
    assert sorted(run.metrics) == ["test", "train", "val"]


def test_what_was_kept_on_jax_answers_the_same_on_tensorflow(run: Run):
    predictor = Predictor.load(run.id)
    for split in ("train", "val", "test"):
        pixels, said = pixels_of(run, split)
        np.testing.assert_allclose(predictor.probabilities(pixels), said, atol=1e-4)
        np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(said, axis=0).max() > 1e-3  # not the same for all


ASK = """
import sys
import keras, numpy as np
from cxr_core.inference.predictor import Predictor
assert keras.backend.backend() == "jax"
np.save(sys.argv[3], Predictor.load(sys.argv[1]).probabilities(np.load(sys.argv[2])))
"""


def test_a_model_is_loaded_and_asked_on_jax(run: Run, tmp_path: Path):
    pixels, said = pixels_of(run, "test")
    np.save(tmp_path / "pixels.npy", pixels)
    done = subprocess.run(
        [sys.executable, "-c", ASK, run.id, str(tmp_path / "pixels.npy"), str(tmp_path / "answers.npy")],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), said, atol=1e-5)
