"""Recipes: the paper's says what PAPER.md says, and whatever a recipe sets is a setting that fits its model."""

import pytest

from cxr_core.models import catalogue, recipes
from cxr_core.runs import config
from cxr_core.runs.config import RunConfig

CASES = [
    (name, recipe, weights)
    for name, model in catalogue.MODELS.items()
    for recipe in model.recipes
    for weights in model.weights
]


def made(model: str, recipe: str, weights: str = "") -> RunConfig:
    return config.make(
        model=model,
        recipe=recipe,
        data="kermany",
        manifest="0" * 12,
        classes=("normal", "viral", "bacterial"),
        settings={"weights": weights} if weights else {},
    )


@pytest.mark.parametrize(("model", "recipe", "weights"), CASES)
def test_every_recipe_of_every_model_is_made_of_settings_within_their_limits(model: str, recipe: str, weights: str):
    chosen = recipes.get(recipe, model=model, weights=weights)
    run = made(model, recipe, weights)
    assert (chosen.name, chosen.summary) == (recipe, recipes.SUMMARIES[recipe])
    for name, value in chosen.settings.items():
        assert name in config.SETTINGS
        assert getattr(run, name) == value
    assert run.weights == weights


@pytest.mark.parametrize("model", ["vgg16", "resnet152"])
def test_the_papers_pretrained_networks_stay_frozen_under_flatten_and_one_dense_layer(model: str):
    run = made(model, "paper")
    assert (run.weights, run.trained, run.head, run.dropout) == ("imagenet", "head", "flatten", 0.0)
    assert (run.batch_size, run.epochs, run.keep, run.image_size) == (100, 100, "val_accuracy", 180)
    assert (run.views, run.head_epochs, run.patience, run.average, run.label_smoothing) == (0, 0, 0, 0.0, 0.0)
    assert (run.schedule, run.class_weights, run.test_flip) == ("constant", "none", False)


@pytest.mark.parametrize("model", list(catalogue.MODELS))
@pytest.mark.parametrize("recipe", ["paper", "tuned"])
def test_from_random_weights_nothing_is_frozen(model: str, recipe: str):
    assert made(model, recipe, "none").trained == "all"


def test_a_weights_file_is_trained_as_pretrained_weights_are():
    file, usual = (recipes.get("tuned", model="vgg16", weights=one).settings for one in ("my.weights.h5", "imagenet"))
    assert file == {**usual, "weights": "my.weights.h5"}
    assert usual["trained"] == "all"


@pytest.mark.parametrize("model", [name for name, entry in catalogue.MODELS.items() if entry.weights[0] != "none"])
def test_tuned_trains_a_pretrained_network_as_a_whole_on_crops_smaller_than_it_answers_at(model: str):
    run = made(model, "tuned")
    assert (run.trained, run.head) == ("all", "average")
    assert 0 < run.train_size < run.image_size and run.crop < 0.5 and run.warmup > 0 and run.average > 0.9


@pytest.mark.parametrize(
    ("images", "size"), [(10, 16), (16 * recipes.STEPS, 16), (600, 20), (3000, 100), (100_000, 100)]
)
def test_the_batch_size_proposed_leaves_enough_steps_an_epoch(images: int, size: int):
    plain = recipes.get("paper", model="custom_cnn")
    assert recipes.batch_size(plain, usual=100, images=images) == size


def test_the_batch_size_of_a_recipe_is_not_exceeded():
    tuned = recipes.get("tuned", model="vgg16")
    assert recipes.batch_size(tuned, usual=100, images=100_000) == tuned.settings["batch_size"] == 32
