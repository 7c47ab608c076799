"""A file that is written again with other weights is the one that Keras would have written."""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from cxr_core.models import registry
from cxr_core.training.keras_file import KerasFile

X = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)


def network(kind: str) -> keras.Model:
    """Of layers with states of their own: running means, random seeds, one network inside another, one layer used twice."""
    if kind != "own":
        return registry.build(kind, classes=3, size=64, dropout=0.2)
    inside = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6), keras.layers.BatchNormalization()])
    twice = keras.layers.Dense(6, name="twice")
    inputs = keras.Input((64, 64, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3)(inputs))
    x = keras.layers.Dropout(0.5)(keras.layers.LayerNormalization()(twice(twice(inside(x)))))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


def others(model: keras.Model, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.1, 0.2, one.shape).astype(one.dtype) for one in model.get_weights()]


@pytest.mark.parametrize("kind", ["own", "custom_cnn", "ann", "resnet18"])
def test_each_file_holds_the_weights_that_were_given(tmp_path: Path, kind: str):
    model = network(kind)
    archive = KerasFile(model)
    for seed in range(3):
        weights = others(model, seed)
        archive.write(tmp_path / "fast.keras", weights)
        loaded = keras.saving.load_model(tmp_path / "fast.keras", compile=False)
        for one, other in zip(loaded.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, other)
        model.set_weights(weights)
        np.testing.assert_array_equal(loaded.predict_on_batch(X), model.predict_on_batch(X))
    assert archive._offsets is not None  # the short way was taken


def test_the_archive_has_the_parts_of_one_by_keras_and_is_sound(tmp_path: Path):
    model = network("custom_cnn")
    KerasFile(model).write(tmp_path / "fast.keras", model.get_weights())
    model.save(tmp_path / "keras.keras")
    with zipfile.ZipFile(tmp_path / "fast.keras") as fast, zipfile.ZipFile(tmp_path / "keras.keras") as usual:
        assert fast.testzip() is None
        assert sorted(fast.namelist()) == sorted(usual.namelist())
        assert fast.read("config.json") == usual.read("config.json")


def test_a_network_whose_weights_are_not_found_is_saved_by_keras(tmp_path: Path):
    halves = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype=keras.DTypePolicy("bfloat16"))])
    archive = KerasFile(halves)
    weights = [np.ones(one.shape, one.dtype) for one in halves.get_weights()]
    archive.write(tmp_path / "a.keras", weights)
    archive.write(tmp_path / "a.keras", weights)
    loaded = keras.saving.load_model(tmp_path / "a.keras", compile=False)
    assert all((one == 1).all() for one in loaded.get_weights())
