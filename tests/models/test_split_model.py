"""A network cut in two: both halves together are the network, and only what is asked for learns."""

import keras
import numpy as np
import pytest

from cxr_core.models import catalogue, registry, split_model

VGG = catalogue.get("vgg16")
RESNET = catalogue.get("resnet18")
PICTURES = np.random.default_rng(4).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)


def built(name: str) -> keras.Model:
    """A network whose last layer is moved from zero, so that it tells images apart."""
    model = registry.build(name, classes=3, size=32, dropout=0.5)
    last = model.get_layer("probabilities")
    row = np.asarray(keras.Model(model.input, last.input)(PICTURES))
    kernel = np.random.default_rng(1).normal(0, 1, (row.shape[1], 3))
    kernel /= np.linalg.norm(row - row.mean(axis=0), axis=1).mean()
    last.set_weights([kernel, -row.mean(axis=0) @ kernel])
    return model


@pytest.fixture
def vgg() -> keras.Model:
    return built("vgg16")


@pytest.fixture
def resnet() -> keras.Model:
    return built("resnet18")


def learning(model: keras.Model) -> set[str]:
    return {layer.name for layer in model.layers if layer.trainable_variables}


def holding(model: keras.Model) -> set[str]:
    return {layer.name for layer in model.layers if layer.weights}


@pytest.mark.parametrize("name", ["vgg16", "resnet18"])
@pytest.mark.parametrize("trained", ["head", "last_block"])
def test_both_halves_one_after_the_other_are_the_network(name: str, trained: str):
    core, entry = built(name), catalogue.get(name)
    backbone, part = split_model.split(core, entry.cut_layer(trained))
    features = np.asarray(backbone(PICTURES))
    assert features.shape[1:] == tuple(core.get_layer(entry.cut_layer(trained)).output.shape[1:])
    answers = np.asarray(core(PICTURES))
    np.testing.assert_allclose(np.asarray(part(features)), answers, atol=1e-6)
    assert not np.allclose(features[0], features[1], rtol=1e-3)


def test_the_halves_share_the_layers_of_the_network_and_have_each_once(resnet: keras.Model):
    backbone, part = split_model.split(resnet, RESNET.last_block)
    part.get_layer("probabilities").set_weights([np.ones((512, 3)), np.ones(3)])
    assert (resnet.get_layer("probabilities").get_weights()[0] == 1).all()
    assert holding(backbone) | holding(part) == holding(resnet)
    assert not holding(backbone) & holding(part)
    assert holding(part) == {one for one in holding(resnet) if one.startswith("stage4")} | {"probabilities"}


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        ("head", {"probabilities"}),
        ("last_block", {"block5_conv1", "block5_conv2", "block5_conv3", "probabilities"}),
        ("all", None),
    ],
)
@pytest.mark.parametrize("pretrained", [False, True])
def test_only_what_lies_behind_the_boundary_learns(
    vgg: keras.Model, trained: str, expected: set[str] | None, pretrained: bool
):
    split_model.unfreeze(vgg, VGG, trained, pretrained=pretrained)
    assert learning(vgg) == (holding(vgg) if expected is None else expected)


def test_what_was_frozen_can_be_released_again(vgg: keras.Model):
    for trained in ("head", "all", "last_block"):
        split_model.unfreeze(vgg, VGG, trained, pretrained=True)
    assert learning(vgg) == {"block5_conv1", "block5_conv2", "block5_conv3", "probabilities"}


def test_of_a_part_that_begins_behind_the_boundary_all_learns(vgg: keras.Model):
    _, part = split_model.split(vgg, VGG.last_block)
    split_model.unfreeze(part, VGG, "last_block", pretrained=True)
    assert learning(part) == {"block5_conv1", "block5_conv2", "block5_conv3", "probabilities"}
    split_model.unfreeze(part, VGG, "head", pretrained=True)
    assert learning(part) == {"probabilities"}


@pytest.mark.parametrize("trained", ["last_block", "all"])
def test_batch_normalisation_stays_as_it_is_in_a_pretrained_network_only(resnet: keras.Model, trained: str):
    split_model.unfreeze(resnet, RESNET, trained, pretrained=True)
    kept = learning(resnet)
    assert not any(one.endswith("_norm") for one in kept)
    assert "stage4_block2_2_conv" in kept
    split_model.unfreeze(resnet, RESNET, trained, pretrained=False)
    assert learning(resnet) - kept == {
        one for one in holding(resnet) if one.endswith("_norm") and (trained == "all" or one.startswith("stage4"))
    }


def test_the_papers_own_network_learns_with_its_batch_normalisation():
    core = registry.build("custom_cnn", classes=3, size=32)
    split_model.unfreeze(core, catalogue.get("custom_cnn"), "all", pretrained=True)
    assert learning(core) == holding(core)
    assert "norm1" in learning(core)
