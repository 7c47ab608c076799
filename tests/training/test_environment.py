"""The environment of a training, as it is saved with its run."""

import json
from importlib.metadata import version

import keras

from cxr_core import __version__
from cxr_core.training import devices, environment
from tests.test_requirements import requirements


def test_the_description_is_json_and_names_versions_device_and_machine():
    told = environment.describe()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert {"cxr_core", "python", "backend", "packages", "device", "machine", "memory_gb"} <= set(told)
    assert (told["cxr_core"], told["backend"]) == (__version__, keras.backend.backend())
    assert told["packages"]["keras"] == keras.__version__
    assert told["packages"]["scipy"] == version("scipy")
    assert told["device"] == devices.describe() != ""
    assert told["memory_gb"] > 0.1


def test_it_asks_for_no_package_that_may_be_missing():
    """A version that cannot be had would end the training."""
    assert set(environment.describe()["packages"]) <= requirements("requirements.txt")
