"""Every model of the catalogue: it builds at any size, is what the catalogue says, and survives being saved."""

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest

from cxr_core.errors import UnknownName
from cxr_core.models import catalogue, recipes, registry

MODELS = list(catalogue.MODELS)
every_model = pytest.mark.parametrize("name", MODELS)


def built(name: str, *, classes: int = 3, size: int = 32) -> keras.Model:
    return registry.build(name, classes=classes, size=size, dropout=0.5)


def pictures(count: int, size: int) -> npt.NDArray[np.float32]:
    """float32 (count, size, size, 3) in 0..255, as `images.to_input` makes them."""
    grey = np.random.default_rng(5).integers(0, 256, (count, size, size, 1))
    return np.repeat(grey, 3, axis=-1).astype(np.float32)


def gflops(model: keras.Model) -> float:
    """10⁹ multiplications and additions of the convolutions and dense layers, for one image."""
    total = 0
    for layer in model.layers:
        places = int(np.prod(layer.output.shape[1:-1]))
        total += sum(2 * places * int(np.prod(one.shape)) for one in layer.weights if "kernel" in one.name)
    return total / 1e9


def test_every_catalogue_entry_has_a_builder_and_every_builder_an_entry():
    assert list(registry.BUILDERS) == MODELS


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(UnknownName, match=r"no model named 'custom_cn'\. Did you mean 'custom_cnn'\?") as caught:
        built("custom_cn")
    assert caught.value.known == MODELS


@every_model
def test_an_entry_says_all_that_pages_show(name: str):
    model = catalogue.get(name)
    assert model.name == name
    assert model.title
    assert model.summary.endswith(".")
    assert all(kind and what for kind, what in model.layers)


@every_model
@pytest.mark.parametrize(("classes", "size"), [(2, 32), (3, 47), (5, 64)])
def test_rows_are_probabilities_at_every_size_and_number_of_classes(name: str, classes: int, size: int):
    model = built(name, classes=classes, size=size)
    rows = np.asarray(model(pictures(2, size)))
    assert model.input_shape == (None, size, size, 3)
    assert (rows.shape, rows.dtype) == ((2, classes), np.float32)
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)


@every_model
def test_different_images_get_different_answers(name: str):
    first, second = np.asarray(built(name)(pictures(2, 32)))
    assert not np.array_equal(first, second)


@every_model
def test_parameters_and_cost_are_those_of_the_catalogue(name: str):
    model, told = built(name, size=180), catalogue.get(name)
    assert sum(int(np.prod(one.shape)) for one in model.trainable_variables) == told.parameters
    assert gflops(model) == pytest.approx(told.gflops, rel=0.05)


@every_model
def test_a_model_is_flat_and_has_no_code_in_its_file(name: str):
    kinds = [type(layer) for layer in built(name).layers]
    assert not any(issubclass(kind, keras.Model | keras.layers.Lambda) for kind in kinds)
    assert all(kind.__module__.startswith("keras.") for kind in kinds)


@every_model
def test_a_saved_model_answers_the_same(name: str, tmp_path: Path):
    model = built(name)
    for layer in model.layers:  # away from the values that a fresh model would have anyhow
        layer.set_weights([one + np.float32(0.01) for one in layer.get_weights()])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(np.asarray(again(pictures(2, 32))), np.asarray(model(pictures(2, 32))))


@every_model
def test_dropout_is_the_one_that_was_asked_for_and_only_in_training(name: str):
    def rates(model: keras.Model) -> set[float]:
        return {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}

    assert 0.25 in rates(registry.build(name, classes=3, size=32, dropout=0.25))
    assert 0.25 not in rates(registry.build(name, classes=3, size=32, dropout=0.0))
    model = built(name)
    np.testing.assert_array_equal(np.asarray(model(pictures(2, 32))), np.asarray(model(pictures(2, 32))))


@every_model
def test_the_recipes_of_a_model_exist_and_others_are_refused_with_their_list(name: str):
    fitting = catalogue.get(name).recipes
    assert fitting
    assert [recipes.get(one, model=name).name for one in fitting] == list(fitting)
    with pytest.raises(UnknownName, match=f"no recipe for {name} named 'magic'") as caught:
        recipes.get("magic", model=name)
    assert caught.value.known == list(fitting)


def test_every_recipe_fits_some_model():
    assert set(recipes.RECIPES) == {one for model in catalogue.MODELS.values() for one in model.recipes}
