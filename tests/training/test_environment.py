"""On what a run was trained, fit to be saved with it."""

import json
from importlib.metadata import version

import keras
import pytest

from cxr_core import __version__
from cxr_core.training import environment


def test_the_description_is_json_and_names_versions_device_and_machine():
    told = environment.describe()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert {"cxr_core", "python", "backend", "packages", "device", "machine", "memory_gb"} <= set(told)
    assert (told["cxr_core"], told["backend"]) == (__version__, keras.backend.backend())
    assert told["packages"]["keras"] == keras.__version__
    assert told["packages"]["scikit-learn"] == version("scikit-learn")
    assert told["device"] == environment.device() != ""
    assert told["memory_gb"] > 0.1


def test_without_a_graphics_card_the_device_is_the_processor_with_its_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "_gpus", list)
    monkeypatch.setattr(environment.process, "cores", lambda: 3)
    assert environment.device() == "CPU, 3 cores"


def test_graphics_cards_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "_gpus", lambda: ["NVIDIA H100", "NVIDIA H100"])
    assert environment.device() == "NVIDIA H100, NVIDIA H100"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="asks TensorFlow for its cards")
@pytest.mark.parametrize(
    ("details", "name"), [({"device_name": "NVIDIA T4", "compute_capability": (7, 5)}, "NVIDIA T4"), ({}, "GPU")]
)
def test_a_card_without_a_name_is_called_gpu(monkeypatch: pytest.MonkeyPatch, details: dict[str, str], name: str):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [object()] if kind == "GPU" else [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    assert environment.device() == name
