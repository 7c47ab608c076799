"""The same network in fewer bytes: it answers alike, and whoever reads the file sees an ordinary network."""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cxr_core.errors import WorkFailed
from cxr_core.models import catalogue, compact, registry, weights

X = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)


def trained(name: str, **settings: Any) -> keras.Model:
    """A network whose normalisation has seen something, which a fresh one's has not."""
    model = registry.build(name, classes=3, size=64, scaling="standard", head="average", **settings)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(
                [
                    rng.uniform(low, 1.5, value.shape)
                    for low, value in zip((0.5, -1, -1, 0.2), layer.get_weights(), strict=True)
                ]
            )
    last = model.get_layer("probabilities")
    last.set_weights([rng.normal(0, 0.1, value.shape) for value in last.get_weights()])
    return model


def answer(model: keras.Model) -> Any:
    return np.asarray(model(X, training=False))


def norms(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "custom_cnn"])
def test_a_compact_network_answers_alike_and_keeps_the_names_of_its_layers(name: str):
    model = trained(name)
    small = compact.compacted(model)
    np.testing.assert_allclose(answer(small), answer(model), atol=5e-3)
    assert not np.allclose(answer(model), 1 / 3, atol=0.01)
    gone = {layer.name for layer in model.layers} - {layer.name for layer in small.layers}
    assert gone == set(norms(model)) - set(norms(small))


def test_normalisation_right_behind_a_convolution_is_folded_and_any_other_stays():
    assert norms(compact.compacted(trained("efficientnet_lite0"))) == []
    assert norms(compact.compacted(trained("custom_cnn"))) == norms(trained("custom_cnn"))  # it is behind pooling there


def test_folding_alone_changes_nothing_but_the_last_digits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compact, "in_half_precision", lambda values: values)
    for name in ("efficientnet_lite0", "resnet18"):
        model = trained(name)
        np.testing.assert_allclose(answer(compact.compacted(model)), answer(model), atol=1e-5)


def test_a_convolution_that_something_else_reads_too_is_left_alone():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    both = keras.layers.Add()([x, keras.layers.BatchNormalization(name="norm")(x)])
    model = keras.Model(inputs, both)
    model.get_layer("norm").set_weights([np.full(4, 2.0), np.ones(4), np.ones(4), np.ones(4)])
    small = compact.compacted(model)
    assert norms(small) == ["norm"]
    seen = X[:, :8, :8]
    np.testing.assert_allclose(np.asarray(small(seen)), np.asarray(model(seen)), rtol=2e-3, atol=0.5)


def test_kernels_have_values_of_half_precision_and_what_it_cannot_hold_stays():
    rng = np.random.default_rng(2)
    kernel = rng.normal(0, 1, (3, 3, 4, 5)).astype(np.float32)
    rounded = compact.in_half_precision(kernel)
    assert rounded.dtype == np.float32 and (rounded == rounded.astype(np.float16)).all()
    np.testing.assert_allclose(rounded, kernel, rtol=2**-11, atol=3e-8)
    for whole in (np.full((2, 2), 1e6, np.float32), np.linspace(0, 1, 9, dtype=np.float32)):
        assert compact.in_half_precision(whole) is whole


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_a_compact_network_is_starting_weights_for_the_network_it_was(name: str, tmp_path: Path):
    path = tmp_path / "model.keras"
    model = trained(name)
    model.save(path)
    compact.compact_file(path)
    loaded = weights.load_backbone(name, size=64, scaling="standard", weights=str(path))
    features = keras.Model(model.input, model.get_layer(catalogue.get(name).features).output)
    expected = answer(features)
    np.testing.assert_allclose(answer(loaded), expected, atol=0.01 * np.abs(expected).max())


def test_a_file_is_smaller_readable_and_the_same_when_it_is_made_twice(tmp_path: Path):
    path = tmp_path / "model.keras"
    trained("custom_cnn").save(path)
    before = path.stat().st_size
    compact.compact_file(path)
    first = path.stat().st_size, answer(keras.saving.load_model(path, compile=False))
    compact.compact_file(path)
    second = path.stat().st_size, answer(keras.saving.load_model(path, compile=False))
    assert first[0] < 0.7 * before and abs(second[0] - first[0]) < 200
    np.testing.assert_array_equal(first[1], second[1])
    assert [one.name for one in tmp_path.iterdir()] == ["model.keras"]


def test_what_is_no_network_stays_as_it_is(tmp_path: Path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("note.txt", "no network")
    before = path.read_bytes()
    with pytest.raises((ValueError, OSError, KeyError, WorkFailed)):
        compact.compact_file(path)
    assert path.read_bytes() == before
