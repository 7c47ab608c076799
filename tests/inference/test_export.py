"""Runs answer the same without Keras as with it, for every architecture, and say where they looked."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from cxr_core import images, workspace
from cxr_core.errors import WorkFailed
from cxr_core.inference import build_from_config, export, litert_model, model_cache
from cxr_core.inference.litert_model import LiteRTModel
from cxr_core.inference.predictor import Predictor
from cxr_core.models import catalogue, resnet_v15, split_model
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.training import feature_extraction

CLASSES = ("normal", "viral", "bacterial")


def pixels(size: int, count: int = 3) -> np.ndarray:
    """Smooth random images, as X-rays are, not noise."""
    rng = np.random.default_rng(5)
    return np.stack([images.prepare(rng.integers(0, 256, (9, 9), dtype=np.uint8), size) for _ in range(count)])


def run_of(model: str, *, size: int = 64, seed: int = 3, **changes: object) -> str:
    """A run with an untrained network whose answers differ from image to image."""
    changes = {"image_size": max(size, catalogue.get(model).smallest), **changes}
    config = settings.make(
        model=model, recipe="paper", data="none", manifest="0" * 12, classes=CLASSES, settings=changes
    )
    run_id = runs.create(config)
    keras.utils.set_random_seed(seed)
    core = build_from_config.build(config)
    end = core.layers[-1]
    end.set_weights([np.random.default_rng(seed).normal(size=one.shape) * 0.01 for one in end.get_weights()])
    if boundary := catalogue.get(model).cut_layer(config.trained):
        below, part = split_model.split(core, boundary)
        workspace.write_json(runs.folder(run_id) / "trunk.json", {"digest": feature_extraction.save_backbone(below)})
        part.save(runs.folder(run_id) / "head.keras")
    else:
        core.save(runs.folder(run_id) / "model.keras")
    return run_id


def slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("custom_cnn", {"head": "flatten"}),
        slow("custom_cnn", {"head": "average", "scaling": "standard", "test_flip": True}),
        ("ann", {}),
        slow("resnet18", {"weights": "none", "trained": "all"}),
        slow("vgg16", {"weights": "none", "trained": "head"}),
        slow("vgg16", {"weights": "none", "trained": "last_block", "head": "average", "test_flip": True}),
    ],
)
def test_an_exported_run_answers_as_its_network(model: str, changes: dict[str, object]) -> None:
    run_id = run_of(model, **changes)
    predictor = Predictor.load(run_id)
    assert export.export(run_id, predictor) <= export.TOLERANCE
    found, shown = LiteRTModel.load(runs.get(run_id)), pixels(predictor.size)
    np.testing.assert_allclose(found.probabilities(shown), predictor.probabilities(shown), atol=1e-5)
    mine, its = found.attribution(shown[0], 1), map_of_the_network(predictor, shown[0], 1)
    np.testing.assert_allclose(mine, its, atol=1e-3 * np.abs(its).max())
    assert mine.ndim == 2 and np.abs(mine).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["astra", "none"])
def test_a_run_is_built_again_as_its_starting_weights_need_it(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resnet_v15.BLOCKS, "resnet152", (1, 1, 1, 3))  # as deep as its last stage
    run_id = run_of("resnet152", weights=weights, trained="head")
    predictor = Predictor.load(run_id)
    assert predictor.model.get_layer("conv1_conv").use_bias == (weights == "none")
    if weights == "astra":
        assert export.export(run_id, predictor) <= export.TOLERANCE


def map_of_the_network(predictor: Predictor, shown: np.ndarray, label: int) -> np.ndarray:
    """The same map from the features that Keras itself computes."""
    core, features = predictor.model, catalogue.get(runs.get(predictor.run_id).config.model).features
    below, head = keras.Model(core.input, core.get_layer(features).output), export.head(core, features)
    views = [shown, shown[:, ::-1]] if predictor.flip else [shown]
    maps = [
        head.attribution(np.asarray(below.predict_on_batch(images.to_input(view[None])))[0], label) for view in views
    ]
    return np.mean([maps[0], *(one[:, ::-1] for one in maps[1:])], axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("flip", [False, True])
def test_the_map_over_an_image_costs_no_second_look_at_it(flip: bool) -> None:
    run_id = run_of("custom_cnn", test_flip=flip)
    export.export(run_id)
    found, (first, second) = LiteRTModel.load(runs.get(run_id)), pixels(64, 2)
    asked = []
    counted = replace(found, graphs=(lambda batch: asked.append(len(batch)) or found.graphs[0](batch),))
    views = 2 if flip else 1
    alone = counted.probabilities(first[None])
    maps = [counted.attribution(first, code) for code in range(3)]
    assert asked == [views] and np.array_equal(counted.probabilities(first[None]), alone)
    other = counted.attribution(second, 0)
    assert asked == [views, views] and not np.allclose(other, maps[0])
    np.testing.assert_allclose(counted.probabilities(np.stack([first, second]))[:1], alone, atol=1e-6)
    np.testing.assert_array_equal(counted.attribution(first, 1), maps[1])
    assert sum(asked) == 4 * views
    for number in range(litert_model.RECENT_IMAGES + 1):  # so many others, and it is forgotten
        counted.attribution(np.full_like(first, number), 0)
    before = len(asked)
    np.testing.assert_allclose(counted.attribution(first, 1), maps[1], atol=1e-9)
    assert len(asked) == before + 1


@pytest.mark.slow
def test_a_backbone_is_exported_once_for_all_its_runs() -> None:
    first, second = (run_of("vgg16", size=32, seed=3, weights="none", trained="head") for _ in range(2))
    export.export(first)
    (path,) = workspace.exported_backbone("x").parent.glob("*.tflite")
    before = path.stat().st_mtime_ns
    export.export(second)
    assert path.stat().st_mtime_ns == before
    assert not (runs.folder(second) / litert_model.FOLDER / "part.tflite").exists()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"scaling": "standard"}, {"image_size": 48}, {"trained": "last_block"}])
def test_the_same_weights_under_another_input_or_cut_elsewhere_are_another_backbone(change: dict[str, object]) -> None:
    asked = {"size": 32, "weights": "none", "trained": "head"}
    for changes in (asked, {**asked, **change}):
        run_id = run_of("vgg16", **changes)  # type: ignore[arg-type] - the same seed, so the same weights
        assert export.export(run_id) <= export.TOLERANCE
        assert LiteRTModel.load(runs.get(run_id)).probabilities(pixels(runs.get(run_id).config.image_size)).shape == (
            3,
            3,
        )
    assert len([*workspace.exported_backbone("x").parent.glob("*.tflite")]) == 2


@pytest.mark.slow
def test_of_a_run_whose_backbone_alone_is_missing_nothing_else_is_written() -> None:
    """As of a run that ships: its folder belongs to the project."""
    run_id = run_of("vgg16", size=32, weights="none", trained="head")
    export.export(run_id)
    (path,) = workspace.exported_backbone("x").parent.glob("*.tflite")
    path.unlink()
    place = runs.folder(run_id) / litert_model.FOLDER
    before = {one.name: one.stat().st_mtime_ns for one in place.iterdir()}
    assert litert_model.files_of(runs.get(run_id)) == () and litert_model.missing_backbone(runs.get(run_id)) == path
    export.export(run_id)
    assert litert_model.files_of(runs.get(run_id)) == (path,)
    assert {one.name: one.stat().st_mtime_ns for one in place.iterdir()} == before


@pytest.mark.slow
def test_a_damaged_backbone_is_made_again_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = run_of("vgg16", size=32, weights="none", trained="head")
    export.export(run_id)
    (path,) = workspace.exported_backbone("x").parent.glob("*.tflite")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    monkeypatch.setattr(
        model_cache, "_export", lambda run: export.export(run.id)
    )  # in this process, which has Keras already
    assert model_cache.get(runs.get(run_id)).probabilities(pixels(32)).shape == (3, 3)
    assert path.stat().st_size == pytest.approx(len(whole), rel=0.01)  # names of layers, which are counted, differ


@pytest.mark.slow
def test_a_file_that_says_something_else_than_its_network_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = run_of("vgg16", size=32, weights="none", trained="head")
    compute = litert_model.Graph.__call__
    monkeypatch.setattr(litert_model.Graph, "__call__", lambda self, batch: compute(self, batch) + 1)
    with pytest.raises(WorkFailed, match="could not be exported"):
        export.export(run_id)
    assert not [*workspace.exported_backbone("x").parent.glob("*.tflite")]


@pytest.mark.slow
def test_another_model_in_the_folder_asks_for_another_export() -> None:
    run_id = run_of("custom_cnn")
    export.export(run_id)
    assert litert_model.files_of(runs.get(run_id))
    other = run_of("custom_cnn", seed=4)
    (runs.folder(other) / "model.keras").replace(runs.folder(run_id) / "model.keras")
    assert not litert_model.files_of(runs.get(run_id))
    with pytest.raises(WorkFailed, match="has not been exported"):
        LiteRTModel.load(runs.get(run_id))


def test_an_export_that_answers_differently_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = run_of("custom_cnn")
    monkeypatch.setattr(export, "_difference", lambda *_: 0.01)
    with pytest.raises(WorkFailed, match="answers differently"):
        export.export(run_id)
    assert not litert_model.files_of(runs.get(run_id))


@pytest.mark.parametrize("failing", ["write", "_difference", "_seal"])
def test_an_export_that_fails_leaves_the_one_that_works(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    run_id = run_of("custom_cnn")
    export.export(run_id)
    folder = runs.get(run_id).folder / litert_model.FOLDER
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: object) -> float:
        raise WorkFailed("The disk is full.")

    monkeypatch.setattr(export, failing, fail)
    with pytest.raises(WorkFailed, match="disk is full"):
        export.export(run_id)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list(folder.parent.glob(".export-*"))
    assert litert_model.LiteRTModel.load(runs.get(run_id))


def test_damaged_files_are_told(tmp_path: Path) -> None:
    run_id = run_of("custom_cnn")
    export.export(run_id)
    (runs.folder(run_id) / litert_model.FOLDER / "part.tflite").write_bytes(b"nothing at all")
    with pytest.raises(WorkFailed, match="damaged"):
        LiteRTModel.load(runs.get(run_id))


def test_an_end_of_another_kind_is_refused() -> None:
    inputs = keras.Input((4, 4, 2), name="features")
    x = keras.layers.Flatten()(keras.layers.Activation("linear", name="edge")(inputs))
    core = keras.Model(inputs, keras.layers.Dense(3, "softmax")(keras.layers.BatchNormalization()(x)))
    with pytest.raises(WorkFailed, match="BatchNormalization"):
        export.head(core, "edge")
