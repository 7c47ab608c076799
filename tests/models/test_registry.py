"""Every model of the catalogue: it builds at any size, is what the catalogue says, learns, and survives being saved."""

import gc
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from cxr_core.errors import BadInput, UnknownName
from cxr_core.models import catalogue, recipes, registry
from cxr_core.models.catalogue import AVERAGE, FLATTEN, SCALINGS

MODELS = list(catalogue.MODELS)
WITH_BACKBONE = [name for name in MODELS if catalogue.get(name).has_backbone]
FAST = ("custom_cnn", "ann", "vgg16", "resnet18")  # to build: one of each kind; the others are built by the slow tests
every_entry = pytest.mark.parametrize("name", MODELS)


def case(name: str, *values: Any) -> Any:
    return pytest.param(name, *values, marks=() if name in FAST else pytest.mark.slow)


def built(names: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", list(map(case, names)))


every_model = built(MODELS)
every_backbone = built(WITH_BACKBONE)


def side(name: str) -> int:
    """Of the smallest image that it takes: the fastest."""
    return catalogue.get(name).smallest


@cache
def shared(name: str) -> keras.Model:
    """A network built once for all tests; its last layer is moved from zero, so that it tells images apart."""
    keras.utils.set_random_seed(2)
    model = registry.build(name, classes=3, size=side(name), dropout=0.5)
    last = model.get_layer("probabilities")
    row = np.asarray(keras.Model(model.input, last.input)(pictures(3, side(name))))
    spread = np.sqrt(((row - row.mean(axis=0)) ** 2).sum(axis=1)).mean()  # fresh features may be large or small
    kernel = np.random.default_rng(3).normal(0, 1 / spread, last.kernel.shape)
    last.set_weights([kernel.astype(np.float32), -(row.mean(axis=0) @ kernel).astype(np.float32)])
    return model


@cache
def answers(name: str) -> npt.NDArray[np.float32]:
    """Of the shared network to three pictures."""
    return np.asarray(shared(name)(pictures(3, side(name))))


@pytest.fixture(scope="module", autouse=True)
def _free() -> Any:
    yield
    shared.cache_clear()
    answers.cache_clear()
    gc.collect()


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


def test_every_catalogue_entry_has_one_builder_and_every_builder_an_entry():
    assert sorted([*registry.BUILDERS, *registry.BACKBONES]) == sorted(MODELS)
    assert sorted(registry.BACKBONES) == sorted(WITH_BACKBONE)


def test_the_papers_models_and_those_of_its_literature_table_are_there():
    assert MODELS[:3] == ["custom_cnn", "vgg16", "resnet152"]
    assert set(MODELS[3:]) == {
        *("ann", "resnet18", "resnet34", "resnet50", "resnet152v2", "vgg19", "densenet121", "inceptionv3"),
        *("efficientnetv2b0", "convnext_tiny", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
    }


@pytest.mark.parametrize("make", [registry.build_backbone, registry.build])
def test_an_unknown_model_lists_the_known_ones(make: Any):
    with pytest.raises(UnknownName, match=r"no model named 'custom_cn'\. Did you mean 'custom_cnn'\?") as caught:
        make("custom_cn", size=32, **({"classes": 3} if make is registry.build else {}))
    assert caught.value.known == MODELS


@every_entry
def test_an_entry_says_all_that_pages_show(name: str):
    model = catalogue.get(name)
    assert model.name == name
    assert model.title
    assert model.summary.endswith(".")
    assert all(kind and what for kind, what in model.layers)
    assert model.weights
    assert set(model.weights) <= set(catalogue.WEIGHTS)
    assert catalogue.SCRATCH in model.weights
    assert model.parts == (("head", "last_block", "all") if model.has_backbone else ("all",))


@every_model
def test_rows_are_probabilities(name: str):
    model = shared(name)
    rows = answers(name)
    assert model.input_shape == (None, side(name), side(name), 3)
    assert (rows.shape, rows.dtype) == ((3, 3), np.float32)
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)


@every_model
def test_different_images_get_different_answers(name: str):
    first, second, third = answers(name)
    assert min(np.abs(first - second).max(), np.abs(first - third).max()) > 0.01


@every_model
@pytest.mark.parametrize("classes", [2, 5])
def test_other_numbers_of_classes_do_as_well(name: str, classes: int):
    if name in WITH_BACKBONE:  # the trunk is the same, so it is not built again
        backbone = keras.Model(shared(name).input, shared(name).get_layer(catalogue.get(name).features).output)
        model = registry.build(name, classes=classes, size=side(name), backbone=backbone)
    else:
        model = registry.build(name, classes=classes, size=side(name))
    rows = np.asarray(model(pictures(2, side(name))))
    assert rows.shape == (2, classes)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)


@built(["custom_cnn", "ann", "vgg16", "resnet18", "efficientnetv2b0"])
def test_an_odd_size_does_as_well(name: str):
    model = registry.build(name, classes=3, size=47)
    assert np.asarray(model(pictures(1, 47))).shape == (1, 3)


@every_model
def test_parameters_and_cost_at_180_pixels_are_those_of_the_catalogue(name: str):
    model, told = registry.build(name, classes=3, size=180), catalogue.get(name)
    head = [
        model.get_layer(one).count_params() for one in ("dense", "dense1", "dense2", "probabilities") if has(model, one)
    ]
    assert (model.count_params() - sum(head), sum(head)) == (told.backbone, told.head)
    assert told.parameters() == model.count_params()
    backbone = keras.Model(model.input, model.get_layer(told.features).output) if told.has_backbone else None
    for classes, head_ in ((5, FLATTEN), (2, AVERAGE)):
        built = registry.build(name, classes=classes, size=180, head=head_, backbone=backbone)
        assert told.parameters(classes, head_) == built.count_params()
    assert gflops(model) == pytest.approx(told.gflops, rel=0.01, abs=0.0006)


def has(model: keras.Model, name: str) -> bool:
    return any(layer.name == name for layer in model.layers)


@every_model
def test_a_model_is_flat_and_has_no_code_in_its_file(name: str):
    kinds = [type(layer) for layer in shared(name).layers]
    assert not any(issubclass(kind, keras.Model | keras.layers.Lambda) for kind in kinds)
    assert all(kind.__module__.startswith("keras.") for kind in kinds)


@every_model
def test_the_layers_for_heatmaps_and_for_freezing_are_where_the_catalogue_says(name: str):
    model, told = shared(name), catalogue.get(name)
    order = [layer.name for layer in model.layers]
    features = model.get_layer(told.features).output
    assert len(features.shape) == 4
    assert order.index(told.features) < order.index("flatten")
    assert tuple(model.get_layer("flatten").input.shape) == tuple(features.shape)  # nothing lies between
    assert told.cut_layer("all") == ""
    if not told.has_backbone:
        return
    edge = model.get_layer(told.last_block).output
    assert len(edge.shape) == 4
    assert (told.cut_layer("head"), told.cut_layer("last_block")) == (told.features, told.last_block)
    behind = keras.Model(edge, model.output)  # every way from image to answer leads through this layer
    before = sum(one.count_params() for one in keras.Model(model.input, edge).layers)
    last_block = behind.count_params() - model.get_layer("probabilities").count_params()
    assert last_block > 0
    assert before + behind.count_params() == model.count_params()
    assert 0 < before < model.count_params()


@every_model
def test_it_learns_one_step(name: str):
    model, size = shared(name), side(name)
    before = model.get_weights()
    model.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy", run_eagerly=True, jit_compile=False)
    loss = model.train_on_batch(pictures(4, size), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]])
    moved = [not np.array_equal(one, np.asarray(now)) for one, now in zip(before, model.get_weights(), strict=True)]
    model.set_weights(before)
    assert np.isfinite(loss)
    assert np.mean(moved) > 0.8  # a bias before a normalisation has no slope


@every_model
def test_a_saved_model_answers_the_same(name: str, tmp_path: Path):
    model, expected = shared(name), answers(name)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(np.asarray(again(pictures(3, side(name)))), expected, atol=1e-5)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]


@every_entry
def test_an_image_too_small_is_refused_in_a_sentence(name: str):
    told = catalogue.get(name)
    with pytest.raises(BadInput) as caught:
        registry.build(name, classes=3, size=told.smallest - 1)
    assert str(caught.value) == (
        f"{told.title} needs images of at least {told.smallest} pixels a side. Received: {told.smallest - 1}."
    )


@pytest.mark.parametrize("name", ["custom_cnn", "ann", "vgg16"])
def test_dropout_is_the_one_that_was_asked_for(name: str):
    def rates(dropout: float) -> set[float]:
        model = registry.build(name, classes=3, size=32, dropout=dropout)
        return {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}

    assert rates(0.25) == {0.25}
    assert rates(0.0) in ({0.0}, set())


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16", "resnet18"])
def test_a_head_averages_or_flattens(name: str):
    """At 64 pixels there are 2 × 2 places with features."""
    sizes = {}
    for head in (FLATTEN, AVERAGE):
        model = registry.build(name, classes=3, size=64, head=head)
        first = next(one for one in model.layers if isinstance(one, keras.layers.Dense))
        sizes[head] = first.kernel.shape[0]
    assert sizes[FLATTEN] == 4 * sizes[AVERAGE]


@every_backbone
def test_the_head_of_a_backbone_starts_from_zeros(name: str):
    backbone = keras.Model(shared(name).input, shared(name).get_layer(catalogue.get(name).features).output)
    fresh = registry.build(name, classes=3, size=side(name), backbone=backbone)
    assert not any(one.any() for one in fresh.get_layer("probabilities").get_weights())
    for mine, theirs in zip(fresh.layers, backbone.layers, strict=False):
        assert mine is theirs  # it stands on that very trunk


CAFFE = np.array([103.939, 116.779, 123.68])
TORCH = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        case("vgg16", lambda x: x - CAFFE),
        case("vgg19", lambda x: x - CAFFE),
        case("resnet50", lambda x: x - CAFFE),
        case("resnet152", lambda x: x - CAFFE),
        case("resnet152v2", lambda x: x / 127.5 - 1),
        case("inceptionv3", lambda x: x / 127.5 - 1),
        case("densenet121", lambda x: (x - TORCH[0]) / TORCH[1]),
    ],
)
def test_a_backbone_sees_pixels_as_keras_own_preprocessing_makes_them(name: str, expected: Any):
    images = pictures(2, side(name))
    seen = np.asarray(keras.Model(shared(name).input, shared(name).get_layer("as_trained").output)(images))
    np.testing.assert_allclose(seen, expected(images), atol=1e-4)
    module = {
        "vgg16": "vgg16",
        "vgg19": "vgg19",
        "resnet50": "resnet",
        "resnet152": "resnet",
        "resnet152v2": "resnet_v2",
    }
    own = getattr(keras.applications, module.get(name, {"inceptionv3": "inception_v3"}.get(name, "densenet")))
    np.testing.assert_allclose(seen, own.preprocess_input(images.copy()), atol=1e-3)


@built(["efficientnetv2b0", "convnext_tiny"])
def test_a_backbone_that_scales_its_input_itself_gets_plain_pixels(name: str):
    kinds = [type(one).__name__ for one in shared(name).layers]
    assert not has(shared(name), "as_trained")
    assert {"Rescaling", "Normalization"} & set(kinds)


@built(["custom_cnn", "vgg16", "resnet18", "efficientnetv2b0"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_only_with_standard_scaling_exposure_does_not_matter(name: str, scaling: str):
    keras.utils.set_random_seed(1)
    model = registry.build(name, classes=3, size=32, scaling=scaling)
    first = next(one for one in model.layers if isinstance(one, keras.layers.Conv2D))
    look = keras.Model(model.input, first.output)
    image = pictures(1, 32) / 2
    plain, brighter = np.asarray(look(image)), np.asarray(look(image * 1.5 + 20))
    same = np.abs(plain - brighter).max() < 1e-3 * np.abs(plain).max()
    assert same == (scaling == "standard" or (scaling == "own" and name == "resnet18"))


@every_entry
def test_the_recipes_of_a_model_exist_and_others_are_refused_with_their_list(name: str):
    fitting = catalogue.get(name).recipes
    assert fitting
    assert [recipes.get(one, model=name).name for one in fitting] == list(fitting)
    with pytest.raises(UnknownName, match=f"no recipe for {name} named 'magic'") as caught:
        recipes.get("magic", model=name)
    assert caught.value.known == list(fitting)


def test_every_recipe_fits_some_model():
    assert set(recipes.SUMMARIES) == {one for model in catalogue.MODELS.values() for one in model.recipes}
