"""The fit on a frozen trunk: a small one in VGG-16's place, with the same names at the same boundaries."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from cxr_core import images, workspace
from cxr_core.data import datasets, index, packing
from cxr_core.data import manifest as manifests
from cxr_core.errors import WorkFailed
from cxr_core.evaluation import predictions
from cxr_core.inference.predictor import Predictor
from cxr_core.models import catalogue, registry, weights
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run
from cxr_core.runs.status import Reporter
from cxr_core.training import fit as fitting
from cxr_core.training import run_training as working
from cxr_core.training.callbacks import StopRequested
from cxr_core.training.fit import fit
from tests.training.test_fit import CLASSES, PIXELS, PLAIN, config, folder, manifest, tiny


def small_backbone(size: int, scaling: str) -> keras.Model:
    inputs = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same", activation="relu", name="block1_conv1")(x)
    x = keras.layers.BatchNormalization(momentum=0.5, name="block1_norm")(x)
    x = keras.layers.MaxPooling2D(name="block4_pool")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="block5_conv1")(x)
    x = keras.layers.BatchNormalization(momentum=0.5, name="block5_norm")(x)
    return keras.Model(inputs, keras.layers.MaxPooling2D(name="block5_pool")(x), name="vgg16")


@pytest.fixture
def small_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights file of the small trunk."""
    monkeypatch.setitem(registry.BACKBONES, "vgg16", small_backbone)
    keras.utils.set_random_seed(9)
    small_backbone(32, "own").save(tmp_path / "file.keras")
    return tmp_path / "file.keras"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run"


def vgg(weights_: object = "none", **changes: Any) -> RunConfig:
    given = {"image_size": 32, "epochs": 2, "batch_size": 4, "learning_rate": 0.01, "weights": str(weights_), **changes}
    return settings.make(
        model="vgg16", recipe="paper", data="small", manifest="0" * 12, classes=CLASSES, settings=given
    )


def rows_on_backbone(train: str = "nnnnnvvbb", val: str = "nvb") -> pd.DataFrame:
    rows = manifest(train, val)
    return rows.assign(data="small", row=rows["place"])


def fit_on_backbone(config_: RunConfig, place: Path) -> fitting.FitResult:
    place.mkdir(parents=True, exist_ok=True)
    return fit(config_, PIXELS, rows_on_backbone(), place, folder(place, config_.epochs))


def kept(place: Path) -> keras.Model:
    return keras.saving.load_model(place / "head.keras", compile=False)


def layers_of(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def differ(one: list[np.ndarray], other: list[np.ndarray]) -> list[bool]:
    return [not np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True)]


class Noting(keras.callbacks.Callback):
    """Notes the learning rate and the weights after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.weights: list[list[np.ndarray]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.rates.append(float(np.asarray(self.model.optimizer.learning_rate)))
        self.weights.append([np.array(one) for one in self.model.get_weights()])


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Every call of Keras' fit: what it was asked, which layers learnt, and what each batch made of them."""
    calls: list[SimpleNamespace] = []
    real = keras.Model.fit

    def note(model: keras.Model, train: Any, **others: Any) -> Any:
        noting = Noting()
        learning = {layer.name for layer in model.layers if layer.trainable_variables}
        calls.append(SimpleNamespace(**others, train=train, model=model, learning=learning, noting=noting))
        return real(model, train, **{**others, "callbacks": [*others["callbacks"], noting]})

    monkeypatch.setattr(keras.Model, "fit", note)
    return calls


@pytest.mark.slow
def test_of_a_frozen_backbone_only_the_head_is_kept_and_the_backbone_named(small_file: Path, place: Path):
    fitted = fit_on_backbone(vgg(small_file), place)
    assert fitted.reason == ""
    assert sorted(one.name for one in place.iterdir()) == [
        "checkpoint",
        "head.keras",
        "history.csv",
        "status.json",
        "trunk.json",
    ]
    assert set(layers_of(kept(place))) == {"probabilities"}
    assert all(differ(kept(place).get_weights(), [np.zeros((24, 3)), np.zeros(3)]))
    source = keras.saving.load_model(small_file, compile=False)
    about = workspace.read_json(place / "trunk.json")
    assert about["digest"] == weights.content_digest(source)
    assert (about["model"], about["weights"], about["size"]) == ("vgg16", str(small_file), 32)
    stored = small_backbone(32, "own")
    stored.load_weights(workspace.backbone(about["digest"]))
    assert not any(differ(stored.get_weights(), source.get_weights()))  # as it was before the training
    assert pd.read_csv(place / "history.csv")["epoch"].tolist() == [1, 2]


@pytest.mark.slow
def test_features_of_the_rows_come_back_for_the_predictions(small_file: Path, place: Path):
    known = fit_on_backbone(vgg(small_file, test_flip=True), place).features
    assert known is not None
    seen = PIXELS[rows_on_backbone()["place"]]
    source = keras.saving.load_model(small_file, compile=False)
    for column, images_ in ((0, seen), (1, seen[:, :, ::-1])):
        direct = np.asarray(source(images.to_input(images_)))
        np.testing.assert_allclose(known.values[known.places[:, column]], direct, atol=1e-6)


def test_a_whole_network_has_no_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "build", tiny)
    fitted = fit(config(epochs=1, **PLAIN), PIXELS, manifest(), tmp_path, folder(tmp_path, 1))
    assert fitted == fitting.FitResult("", None)
    assert not (tmp_path / "trunk.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("from_file", [True, False])
def test_with_the_last_block_what_lies_before_it_stays(
    small_file: Path, place: Path, from_file: bool, monkeypatch: pytest.MonkeyPatch
):
    made: list[keras.Model] = []
    real = weights.load_backbone

    def note(*given: Any, **named: Any) -> keras.Model:
        backbone = real(*given, **named)
        made.append(keras.models.clone_model(backbone))
        made[-1].set_weights(backbone.get_weights())
        return backbone

    monkeypatch.setattr(weights, "load_backbone", note)
    fit_on_backbone(vgg(small_file if from_file else "none", trained="last_block", keep="last"), place)
    before, after = layers_of(made[0]), layers_of(kept(place))
    assert set(after) == {"block5_conv1", "block5_norm", "probabilities"}
    assert all(differ(before["block5_conv1"], after["block5_conv1"]))
    assert after["probabilities"][0].any()
    assert any(differ(before["block5_norm"], after["block5_norm"])) is not from_file
    below = keras.Model(made[0].input, made[0].get_layer("block4_pool").output)
    digest = workspace.read_json(place / "trunk.json")["digest"]
    assert digest == weights.content_digest(below)
    stored = keras.models.clone_model(below)
    stored.load_weights(workspace.backbone(digest))
    assert not any(differ(stored.get_weights(), below.get_weights()))


@pytest.mark.slow
def test_when_all_learns_it_starts_from_the_weights_asked_for(small_file: Path, place: Path, asked: SimpleNamespace):
    with pytest.raises(WorkFailed):
        fit_on_backbone(vgg(small_file, trained="all"), place)
    mine = layers_of(asked.model.get_layer("vgg16"))
    source = layers_of(keras.saving.load_model(small_file, compile=False))
    assert set(source) < set(mine)
    for name, values in source.items():
        assert not any(differ(values, mine[name]))


@pytest.mark.slow
def test_the_head_learns_alone_first_and_the_history_goes_on(
    small_file: Path, place: Path, fits: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fitting, "_MAX_TABLE_BYTES", 0)  # so that layers go by their own names
    fit_on_backbone(vgg(small_file, trained="last_block", epochs=5, head_epochs=2), place)
    assert [(one.initial_epoch, one.epochs) for one in fits] == [(0, 2), (2, 5)]
    assert [one.learning for one in fits] == [{"probabilities"}, {"block5_conv1", "probabilities"}]
    table = pd.read_csv(place / "history.csv")
    assert table["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert np.isfinite(table.to_numpy()).all()
    first, last = fits[0].noting.weights[0], fits[0].noting.weights[-1]
    names = [one.path for one in fits[0].model.weights]
    assert {name.split("/")[0] for name, moved in zip(names, differ(first, last), strict=True) if moved} == {
        "probabilities"
    }


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"average": 0.9}, {"views": 2, "dropout": 0.3}, {"trained": "last_block"}])
def test_features_in_the_network_or_in_the_batches_make_no_difference(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
):
    found = []
    for number, held in enumerate((2**30, 0)):
        monkeypatch.setattr(fitting, "_MAX_TABLE_BYTES", held)
        place = tmp_path / f"run{number}"
        fit_on_backbone(vgg(small_file, epochs=2, **changes), place)
        found.append(kept(place).get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"trained": "head"}, {"trained": "last_block", "head_epochs": 3}])
def test_without_a_second_part_there_is_one_phase(
    small_file: Path, place: Path, fits: list[SimpleNamespace], changes: dict[str, Any]
):
    fit_on_backbone(vgg(small_file, **{"epochs": 3, "head_epochs": 1, **changes}), place)
    assert [(one.initial_epoch, one.epochs) for one in fits] == [(0, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["head", "last_block"])
def test_the_model_kept_is_the_running_mean_of_the_weights(
    small_file: Path, place: Path, fits: list[SimpleNamespace], trained: str
):
    fit_on_backbone(vgg(small_file, trained=trained, average=0.8, keep="last"), place)
    steps = fits[0].noting.weights
    assert len(steps) == 6
    mean = steps[0]
    for step in steps[1:]:
        mean = [0.8 * old + 0.2 * new for old, new in zip(mean, step, strict=True)]
    found = kept(place).get_weights()
    for one, expected, raw in zip(found, mean, steps[-1], strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-6)
        if np.abs(raw - expected).max() > 0:  # normalisation does not learn here
            assert np.abs(one - raw).max() > 1e-4


@pytest.mark.slow
def test_without_averaging_the_last_weights_are_kept(small_file: Path, place: Path, fits: list[SimpleNamespace]):
    fit_on_backbone(vgg(small_file, keep="last"), place)
    assert not any(differ(kept(place).get_weights(), fits[0].noting.weights[-1]))


@pytest.mark.slow
def test_patience_ends_it_early_and_says_so(small_file: Path, place: Path, monkeypatch: pytest.MonkeyPatch):
    ranks = {0: (1,), 1: (2,), 2: (1,), 3: (2,)}
    monkeypatch.setattr(runs, "epoch_score", lambda now, by: ranks.get(now["epoch"], (0,)))
    fitted = fit_on_backbone(vgg(small_file, epochs=9, patience=3), place)
    assert fitted.reason == "Ended after epoch 5: 3 epochs in a row were no better."
    assert pd.read_csv(place / "history.csv")["epoch"].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_patience_begins_anew_when_the_rest_is_released(
    small_file: Path, place: Path, fits: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
):
    """Else a head that has learnt all it can would end the training before the last block has learnt at all."""
    monkeypatch.setattr(runs, "epoch_score", lambda now, by: (-now["epoch"],))
    fitted = fit_on_backbone(vgg(small_file, trained="last_block", epochs=9, head_epochs=4, patience=2), place)
    assert [(one.initial_epoch, one.epochs) for one in fits] == [(0, 4), (4, 9)]
    assert fitted.reason == "Ended after epoch 6: 2 epochs in a row were no better."


@pytest.mark.slow
def test_a_cosine_lowers_the_rate_to_a_hundredth_and_without_it_it_stays(
    small_file: Path, place: Path, fits: list[SimpleNamespace]
):
    fit_on_backbone(vgg(small_file, epochs=4, schedule="cosine"), place)
    fit_on_backbone(vgg(small_file, epochs=4), place / "other")
    lowered, constant = (one.noting.rates for one in fits)
    assert len(lowered) == 12
    assert all(later < earlier for earlier, later in pairwise(lowered))
    assert lowered[0] == pytest.approx(0.01, rel=0.05)
    assert lowered[5] == pytest.approx((0.01 + 0.0001) / 2, rel=0.02)
    assert lowered[-1] == pytest.approx(0.0001, rel=0.01)
    assert constant == pytest.approx([0.01] * 12)


def full_memory(monkeypatch: pytest.MonkeyPatch, times: int) -> list[tuple[int, int]]:
    """Keras' fit does one epoch, then the device is full, so many times; returns (epoch, images of a batch) per call."""
    real, calls = keras.Model.fit, []

    def fit_(model: keras.Model, train: Any, **others: Any) -> Any:
        calls.append((others["initial_epoch"], len(train[0][0])))
        if len(calls) > times:
            return real(model, train, **others)
        real(model, train, **{**others, "epochs": others["initial_epoch"] + 1})
        raise tf.errors.ResourceExhaustedError(None, None, "failed to allocate memory")

    monkeypatch.setattr(keras.Model, "fit", fit_)
    return calls


@pytest.mark.slow
def test_full_memory_halves_the_batch_says_so_and_goes_on(
    small_file: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    calls = full_memory(monkeypatch, 2)
    fitted = fit_on_backbone(vgg(small_file, epochs=4, batch_size=8), place)
    assert calls == [(0, 8), (1, 4), (2, 2)]
    assert fitted.reason == ""
    assert pd.read_csv(place / "history.csv")["epoch"].tolist() == [1, 2, 3, 4]
    printed = capsys.readouterr().out
    assert "The device's memory is full: batches of 4 instead of 8.\n" in printed
    assert "The device's memory is full: batches of 2 instead of 4.\n" in printed
    assert states.read(place).batches == 5  # of 9 images


@pytest.mark.slow
def test_memory_that_is_full_with_one_image_ends_it(small_file: Path, place: Path, monkeypatch: pytest.MonkeyPatch):
    calls = full_memory(monkeypatch, 9)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        fit_on_backbone(vgg(small_file, epochs=9, batch_size=2), place)
    assert [size for _, size in calls] == [2, 1]


@pytest.mark.slow
def test_another_error_is_not_tried_again(small_file: Path, place: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []

    def fails(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise ValueError("shapes")

    monkeypatch.setattr(keras.Model, "fit", fails)
    with pytest.raises(ValueError, match="shapes"):
        fit_on_backbone(vgg(small_file), place)
    assert calls == [1]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_head_and_another_does_not(small_file: Path, place: Path):
    found = []
    for number, seed in enumerate((1, 1, 2)):
        fit_on_backbone(
            vgg(small_file, trained="last_block", dropout=0.3, views=2, seed=seed, keep="last"), place / str(number)
        )
        found.append(kept(place / str(number)).get_weights())
    assert not any(differ(found[0], found[1]))
    assert any(differ(found[0], found[2]))


@pytest.mark.slow
def test_more_settings_reach_the_loss_and_the_optimiser(small_file: Path, place: Path, asked: SimpleNamespace):
    with pytest.raises(WorkFailed):
        fit_on_backbone(vgg(small_file, label_smoothing=0.2, weight_decay=0.03, average=0.7, dropout=0.4), place)
    optimiser = asked.model.optimizer
    assert (optimiser.weight_decay, optimiser.use_ema, optimiser.ema_momentum) == (0.03, True, 0.7)
    assert asked.model.loss.label_smoothing == 0.2
    assert asked.model.get_layer("part").get_layer("dropout").rate == 0.4


@pytest.mark.slow
def test_training_sees_changed_views_in_turn_and_validation_does_not(
    small_file: Path, place: Path, asked: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fitting, "_MAX_TABLE_BYTES", 0)  # batches of the features themselves
    with pytest.raises(WorkFailed):
        fit_on_backbone(vgg(small_file, views=1, test_flip=True, batch_size=12), place)
    source = keras.saving.load_model(small_file, compile=False)
    direct = np.asarray(source(images.to_input(PIXELS[19 - np.arange(12)])))
    np.testing.assert_allclose(asked.validation_data[0][0], direct[9:], atol=1e-6)

    def plain() -> set[int]:
        """Positions of the training images that come unchanged."""
        seen = asked.train[0][0]
        assert seen.shape == (9, 2, 2, 6)
        return {at for at in range(9) if any(np.allclose(one, direct[at], atol=1e-5) for one in seen)}

    epochs = []
    for _ in range(4):
        epochs.append(plain())
        asked.train.on_epoch_end()
    assert 0 < len(epochs[0]) < 9
    assert epochs[1] == set(range(9)) - epochs[0]
    assert epochs[2:] == epochs[:2]  # two views; the mirrored one is for predictions


@pytest.mark.slow
def test_a_stop_is_seen_while_features_are_computed(small_file: Path, place: Path):
    place.mkdir()
    (place / "stop").touch()
    with pytest.raises(StopRequested):
        fit_on_backbone(vgg(small_file), place)
    assert not (place / "history.csv").exists()


@pytest.mark.slow
def test_the_status_tells_of_the_features(small_file: Path, place: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[tuple[str, int, int]] = []
    tell = Reporter.tell

    def note(reporter: Reporter, **changes: Any) -> None:
        tell(reporter, **changes)
        if reporter.status.stage == "features":
            told.append((reporter.status.stage, reporter.status.batch, reporter.status.batches))

    monkeypatch.setattr(Reporter, "tell", note)
    fit_on_backbone(vgg(small_file, epochs=1), place)
    assert ("features", 13, 13) in told
    assert told[0] == ("features", 0, 13)


@pytest.fixture
def files(xray_tree: Any) -> None:
    """A dataset of 13 files, named `small`."""
    datasets.add(str(xray_tree()), "small")


def worked(**changes: Any) -> Run:
    """A run of VGG-16 on 13 real files, done by the work of a run's process."""
    from_manifest = manifests.build("small")
    config_ = vgg(**{"epochs": 1, **changes})
    run = runs.create(replace(config_, manifest=from_manifest.id, classes=from_manifest.classes))
    working.train_run(run)
    return runs.get(run)


@pytest.mark.slow
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("changes", [{"trained": "head"}, {"trained": "last_block", "test_flip": True, "views": 1}])
def test_a_run_on_a_real_backbone_predicts_what_its_tables_say(changes: dict[str, Any]):
    keras.utils.set_random_seed(0)
    fresh = registry.build_backbone("vgg16", size=32)
    below = keras.Model(fresh.input, fresh.get_layer(catalogue.get("vgg16").cut_layer(changes["trained"])).output)
    run = worked(**changes, keep="last", learning_rate=1e-3)  # far from certain, so that images differ
    assert (run.status.state, run.status.reason) == ("finished", "")
    assert (run.folder / "head.keras").is_file()
    assert not (run.folder / "model.keras").exists()
    if changes["trained"] == "head":
        assert (run.folder / "head.keras").stat().st_size < 1_000_000
    predictor = Predictor.load(run.id)
    loaded = keras.Model(
        predictor.model.input, predictor.model.get_layer(catalogue.get("vgg16").cut_layer(changes["trained"])).output
    )
    assert (
        workspace.read_json(run.folder / "trunk.json")["digest"]
        == weights.content_digest(below)
        == weights.content_digest(loaded)
    )
    pixels = packing.open_packed("small", size=32)
    ids = index.column("small", "id").astype(str).tolist()
    for split, count in (("train", 6), ("val", 1), ("test", 6)):
        table = predictions.read(run.folder / "predictions" / f"{split}.parquet")
        assert len(table) == count
        rows = np.array([ids.index(one) for one in table["id"]])
        found = table[[f"p_{name}" for name in run.config.classes]].to_numpy()
        np.testing.assert_allclose(found, predictor.probabilities(pixels, rows=rows), atol=1e-6)
    assert np.ptp(found, axis=0).max() > 5e-5  # not the same for all


@pytest.mark.slow
@pytest.mark.usefixtures("files")
def test_a_backbone_that_has_gone_comes_from_its_file_again_or_is_missed_in_words(small_file: Path):
    run = worked(weights_=small_file)
    before = Predictor.load(run.id).probabilities(PIXELS)
    digest = workspace.read_json(run.folder / "trunk.json")["digest"]
    workspace.backbone(digest).unlink()
    np.testing.assert_allclose(Predictor.load(run.id).probabilities(PIXELS), before, atol=1e-6)
    other = small_backbone(32, "own")
    other.save(small_file)
    with pytest.raises(WorkFailed, match=rf"frozen part of run '{run.id}' is not the one .*{digest}.* Train it again"):
        Predictor.load(run.id)
    workspace.backbone(digest).write_bytes(b"no weights")
    with pytest.raises(WorkFailed, match=rf"frozen part of run '{run.id}' is not the one .*{digest}"):
        Predictor.load(run.id)
    (run.folder / "trunk.json").unlink()
    with pytest.raises(WorkFailed, match="is damaged"):
        Predictor.load(run.id)
