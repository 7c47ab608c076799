"""The fit: what a run's settings say is what Keras is asked to do, and the folder gets history and best model."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from cxr_core.data.augment import AugmentationLimits, augmented_view
from cxr_core.errors import WorkFailed
from cxr_core.models import augmentation, registry
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig
from cxr_core.runs.status import Reporter, Status
from cxr_core.training import fit as fitting
from cxr_core.training.fit import fit

CLASSES = ("normal", "viral", "bacterial")
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 32, 32), dtype=np.uint8)
PLAIN = {"rotation": 0, "translation": 0, "zoom": 0, "flip": False, "brightness": 0, "contrast": 0}


def config(**changes: Any) -> RunConfig:
    return settings.make(
        model="custom_cnn",
        recipe="paper",
        data="small",
        manifest="0" * 12,
        classes=CLASSES,
        settings={"image_size": 32, "epochs": 2, "batch_size": 4, **changes},
    )


def manifest(train: str = "nnnnnvvbb", val: str = "nvb") -> pd.DataFrame:
    """Rows of a manifest, the last image of `PIXELS` first, of classes given by their first letters."""
    names = {name[0]: name for name in CLASSES}
    splits = ["train"] * len(train) + ["val"] * len(val) + ["test"]
    classes = [names[letter] for letter in train + val + "n"]
    return pd.DataFrame(
        {
            "place": 19 - np.arange(len(classes)),
            "split": splits,
            "class": pd.Categorical(classes),
            "view": 0,
            "weight": 1.0,
            "sha256": [f"{20 - place:064x}" for place in range(len(classes))],
        }
    )


def folder(place: Path, epochs: int = 2) -> Reporter:
    states.write(place, Status(created=1.0, epochs=epochs))
    return Reporter(place)


def tiny(name: str = "", *, classes: int, size: int, **_: object) -> keras.Model:
    """Stands in where only the work around the network matters: builds and compiles fast."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax", name="probabilities")(x))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after a real fit of two epochs, with every augmentation on."""
    place = tmp_path_factory.mktemp("fitted")
    fit(config(), PIXELS, manifest(), place, folder(place))
    return place


def ask(place: Path, rows: pd.DataFrame | None = None, **changes: Any) -> None:
    with pytest.raises(WorkFailed):  # no epoch was done, so there is no model
        fit(config(**changes), PIXELS, manifest() if rows is None else rows, place, folder(place))


@pytest.mark.slow
def test_the_history_has_a_row_an_epoch_of_finite_figures(fitted: Path):
    table = pd.read_csv(fitted / "history.csv")
    assert tuple(table.columns) == runs.HISTORY
    assert table["epoch"].tolist() == [1, 2]
    assert np.isfinite(table.to_numpy()).all()
    assert table[["accuracy", "val_accuracy"]].stack().between(0, 1).all()


def test_the_status_says_that_all_epochs_are_done(fitted: Path):
    status = states.read(fitted)
    assert (status.stage, status.epoch, status.batches) == ("training", 2, 3)


def test_the_model_kept_is_the_plain_network_and_has_learnt(fitted: Path):
    kept = keras.saving.load_model(fitted / "model.keras", compile=False)
    keras.utils.set_random_seed(config().seed)
    fresh = registry.build("custom_cnn", classes=3, size=32, dropout=0.5)
    assert [layer.name for layer in kept.layers] == [layer.name for layer in fresh.layers]
    assert kept.input_shape == (None, 32, 32, 3)
    assert all(np.isfinite(one).all() for one in kept.get_weights())
    for layer in ("conv1", "dense", "probabilities"):
        moved = np.abs(kept.get_layer(layer).get_weights()[0] - fresh.get_layer(layer).get_weights()[0]).max()
        assert 0 < moved < 0.1  # six steps of Adam at 0.001, from the weights that the seed gives


def test_nothing_else_is_left_in_the_folder(fitted: Path):
    assert sorted(one.name for one in fitted.iterdir()) == [
        "checkpoint",
        "history.csv",
        "model.keras",
        "status.json",
    ]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_and_another_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "build", tiny)
    weights = []
    for number, seed in enumerate((1, 1, 2)):
        place = tmp_path / str(number)
        fit(config(seed=seed, epochs=1, rotation=0, zoom=0), PIXELS, manifest(), place, folder(place))
        weights.append(keras.saving.load_model(place / "model.keras").get_layer("probabilities").get_weights()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("counts", "letters"), [((5, 2, 2), "nnnnnvvbb"), ((1, 1, 7), "nvbbbbbbb"), ((4, 0, 5), "nnnnbbbbb")]
)
def test_balanced_weights_are_those_of_scikit_learn_over_the_training_images(
    asked: SimpleNamespace, tmp_path: Path, counts: tuple[int, ...], letters: str
):
    ask(tmp_path, manifest(letters, val="vvv"), class_weights="balanced")
    present = [code for code, count in enumerate(counts) if count]
    wanted = compute_class_weight("balanced", classes=np.array(present), y=np.repeat(range(3), counts))
    given = dict(zip(present, wanted, strict=True))
    total = 0.0
    for number in range(len(asked.train)):
        _, classes, weights = asked.train[number]
        np.testing.assert_allclose(weights, [given[code] for code in classes.argmax(axis=1)], rtol=1e-6)
        total += float(weights.sum())
    assert total == pytest.approx(len(letters))


def test_without_class_weights_all_count_alike(asked: SimpleNamespace, tmp_path: Path):
    ask(tmp_path, class_weights="none")
    assert len(asked.train[0]) == 2


def test_weights_of_the_manifest_reach_the_loss_and_balanced_ones_come_on_top(asked: SimpleNamespace, tmp_path: Path):
    rows = manifest("nnv", val="nvb")
    rows.loc[rows["class"] == "viral", "weight"] = 2.0
    ask(tmp_path, rows)
    assert sorted(asked.train[0][2]) == [1, 1, 2]
    assert len(asked.validation_data[0]) == 2
    ask(tmp_path, rows, class_weights="balanced")  # two normals of weight 1 weigh as much as one viral of weight 2
    assert sorted(asked.train[0][2]) == [1, 1, 2]


def test_changed_views_of_the_manifest_are_what_is_learned(asked: SimpleNamespace, tmp_path: Path):
    rows = manifest("nnv", val="nvb")
    rows.loc[0, "view"] = 77
    ask(tmp_path, rows)
    changed = augmented_view(PIXELS[19], 77)[..., None]
    assert any(np.array_equal(one, changed) for one in asked.train[0][0])
    assert not any(np.array_equal(one, PIXELS[19][..., None]) for one in asked.train[0][0])


def test_settings_reach_the_optimiser_the_network_and_the_batches(asked: SimpleNamespace, tmp_path: Path):
    ask(tmp_path, learning_rate=0.0123, dropout=0.125, epochs=7, batch_size=5)
    assert asked.epochs == 7
    assert isinstance(asked.model.optimizer, keras.optimizers.Adam)
    assert float(asked.model.optimizer.learning_rate) == pytest.approx(0.0123)
    assert asked.model.get_layer("custom_cnn").get_layer("dropout").rate == 0.125
    assert [len(asked.train[number][0]) for number in range(len(asked.train))] == [5, 4]


def test_each_augmentation_gets_its_own_setting(
    asked: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given: dict[str, Any] = {}
    real = augmentation.training_model

    def note(
        core: keras.Model, limits: AugmentationLimits, *, size: int, share: float, seed: int, train_size: int
    ) -> keras.Model:
        given.update(asdict(limits), size=size, moved=share, seed=seed, train_size=train_size)
        return real(core, limits, size=size, share=share, seed=seed, train_size=train_size)

    monkeypatch.setattr(augmentation, "training_model", note)
    wanted = {
        "rotation": 1,
        "translation": 0.2,
        "zoom": 0.3,
        "stretch": 0.2,
        "crop": 0.3,
        "crop_aspect": 1.5,
        "border": 0.2,
        "flip": True,
        "moved": 0.7,
        "brightness": 0.5,
        "contrast": 0.6,
        "seed": 7,
    }
    ask(tmp_path, **wanted)
    assert given.pop("size") == given.pop("train_size") == 32
    assert given == {name: getattr(config(**wanted), name) for name in given}
    assert set(wanted) <= set(given)


def test_a_smaller_size_is_trained_on_and_the_image_size_is_validated_saved_and_answered_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[tuple[int, bool]] = []
    real = keras.layers.GlobalAveragePooling2D.call

    def note(layer: Any, x: Any, *others: Any, **more: Any) -> Any:
        sizes.append(x.shape[1])
        return real(layer, x, *others, **more)

    monkeypatch.setattr(keras.layers.GlobalAveragePooling2D, "call", note)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 96, 96), dtype=np.uint8)
    small = config(head="average", image_size=96, train_size=64, epochs=1, crop=0.5)
    fit(small, pixels, manifest(), tmp_path, folder(tmp_path, epochs=1))
    assert {2, 3} <= set(sizes)  # 64 and 96 pixels, five times halved
    saved = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert saved.input_shape == (None, 96, 96, 3)


@pytest.mark.parametrize(("schedule", "late"), [("constant", 0.1), ("cosine", 0.001)])
def test_the_learning_rate_rises_over_the_warm_up_and_then_follows_its_schedule(schedule: str, late: float):
    rate = fitting._rate(config(learning_rate=0.1, schedule=schedule, warmup=0.5), 1000, 50)
    first = [float(rate(step)) for step in (0, 25, 50)]
    assert first == pytest.approx([0, 0.05, 0.1], abs=0.003)
    assert float(rate(1000)) == pytest.approx(late, rel=0.02)


def test_a_warm_up_longer_than_the_training_ends_with_it():
    rate = fitting._rate(config(learning_rate=0.1, schedule="cosine", warmup=50), 10, 500)
    assert float(rate(9)) == pytest.approx(0.1, rel=0.01)


def test_each_split_gets_its_own_images_and_only_training_is_shuffled(asked: SimpleNamespace, tmp_path: Path):
    ask(tmp_path, batch_size=9)
    (train, classes), (val, val_classes) = asked.train[0], asked.validation_data[0]
    expected = PIXELS[19 - np.arange(12)][..., None]
    np.testing.assert_array_equal(val, expected[9:])
    np.testing.assert_array_equal(val_classes.argmax(axis=1), [0, 1, 2])
    places = [next(at for at in range(9) if np.array_equal(one, expected[at])) for one in train]
    assert sorted(places) == list(range(9)) != places
    np.testing.assert_array_equal(classes.argmax(axis=1), np.array([0, 0, 0, 0, 0, 1, 1, 2, 2])[places])


def test_codes_follow_the_order_of_the_runs_classes():
    names = pd.Series(["viral", "normal", "bacterial"], dtype="category")
    found = fitting.class_codes(config(), names)
    assert (found.tolist(), found.dtype) == ([1, 0, 2], np.int64)


@pytest.mark.parametrize(("train", "val", "split"), [("", "nvb", "train"), ("nvb", "", "val")])
def test_an_empty_split_is_refused_in_words(tmp_path: Path, train: str, val: str, split: str):
    with pytest.raises(WorkFailed, match=f"The manifest has no {split} images, and training needs them"):
        fit(config(), PIXELS, manifest(train, val), tmp_path, folder(tmp_path))
    assert not (tmp_path / "history.csv").exists()


def test_a_loss_that_is_no_number_ends_in_words_and_keeps_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(name: str, **others: Any) -> keras.Model:
        model = tiny(**others)
        model.set_weights([np.full_like(one, np.nan) for one in model.get_weights()])
        return model

    monkeypatch.setattr(registry, "build", broken)
    with pytest.raises(WorkFailed, match="The loss stopped being a number"):
        fit(config(**PLAIN), PIXELS, manifest(), tmp_path, folder(tmp_path))
    assert not (tmp_path / "model.keras").exists()


def test_with_no_epoch_done_there_are_words_instead_of_a_model(asked: SimpleNamespace, tmp_path: Path):
    with pytest.raises(WorkFailed, match="Try a lower learning rate"):
        fit(config(), PIXELS, manifest(), tmp_path, folder(tmp_path))
