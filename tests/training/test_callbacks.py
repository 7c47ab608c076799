"""Beside the fit: progress and history are written at once, a stop is seen, the best epoch is saved whole."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from cxr_core.errors import WorkFailed
from cxr_core.models import registry
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.status import Reporter, Status
from cxr_core.training.callbacks import MODEL, BestModelCheckpoint, EarlyStopping, StatusCallback, StopRequested

LOGS = {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.25, "val_accuracy": 0.875}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of a run of three epochs."""
    states.write(tmp_path / "run", Status(created=1.0, epochs=3))
    return tmp_path / "run"


@pytest.fixture
def reporter(place: Path) -> Reporter:
    return Reporter(place)


@pytest.fixture
def watch(place: Path, reporter: Reporter) -> StatusCallback:
    made = StatusCallback(place, reporter, images=14)
    made.batches = 2
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time stands still but for what the test adds to `now`."""
    it = SimpleNamespace(now=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: it.now)
    return it


def told(place: Path) -> dict[str, Any]:
    return json.loads((place / "status.json").read_bytes())


def test_each_epoch_adds_its_row_to_the_history_at_once(place: Path, watch: StatusCallback, clock: SimpleNamespace):
    for epoch in range(3):
        watch.on_epoch_begin(epoch)
        clock.now += 1.5 + epoch
        watch.on_epoch_end(epoch, {**LOGS, "loss": 1.0 - 0.25 * epoch})
        assert len(pd.read_csv(place / "history.csv")) == epoch + 1
    table = pd.read_csv(place / "history.csv")
    assert tuple(table.columns) == runs.HISTORY
    assert table["epoch"].tolist() == [1, 2, 3]
    assert table["loss"].tolist() == [1.0, 0.75, 0.5]
    assert table["val_accuracy"].tolist() == [0.875] * 3
    assert table["seconds"].tolist() == [1.5, 2.5, 3.5]


def test_the_status_tells_whole_epochs_and_the_batch_under_way(place: Path, reporter: Reporter, watch: StatusCallback):
    watch.on_epoch_begin(0)
    assert (told(place)["stage"], told(place)["epoch"], told(place)["batches"]) == ("training", 0, 2)
    watch.on_train_batch_end(0)
    assert (reporter.status.epoch, reporter.status.batch) == (0, 1)
    watch.on_train_batch_end(1)
    assert (reporter.status.epoch, reporter.status.batch) == (0, 2)
    watch.on_epoch_end(0, LOGS)
    assert (told(place)["epoch"], told(place)["batch"]) == (1, 0)


def test_the_rate_is_images_a_second_and_the_time_left_counts_all_epochs(
    reporter: Reporter, watch: StatusCallback, clock: SimpleNamespace
):
    watch.on_epoch_begin(0)
    clock.now += 4
    watch.on_train_batch_end(0)  # half of 14 images in 4 s: 8 s an epoch, 2.5 epochs left
    assert (reporter.status.rate, reporter.status.seconds_left) == (1.8, 20.0)
    clock.now += 4
    watch.on_train_batch_end(1)
    assert reporter.status.seconds_left == 16.0  # two epochs of 8 s; nothing is known of the validation
    clock.now += 2  # with the validation, the epoch took 10 s
    watch.on_epoch_end(0, LOGS)
    assert reporter.status.seconds_left == 20.0
    watch.on_epoch_begin(1)
    clock.now += 1
    watch.on_train_batch_end(
        0
    )  # one fast step among slow ones: one of 4 s, one validation, and an epoch of 10 s are left
    assert (reporter.status.rate, reporter.status.seconds_left) == (7.0, 16.0)


def ran(watch: StatusCallback, clock: SimpleNamespace, steps: list[float]) -> None:
    """One whole epoch of these steps, without a validation."""
    watch.on_epoch_begin(0)
    for batch, seconds in enumerate(steps):
        clock.now += seconds
        watch.on_train_batch_end(batch)


def test_the_first_step_which_builds_the_graphs_hardly_counts(
    reporter: Reporter, watch: StatusCallback, clock: SimpleNamespace
):
    watch.batches = 10
    ran(watch, clock, [60.0, 1.0, 1.0])
    assert reporter.status.seconds_left == 27.0  # 7 steps of this epoch and 20 of the next two


def test_a_while_in_which_the_machine_was_busy_is_forgotten(
    reporter: Reporter, watch: StatusCallback, clock: SimpleNamespace
):
    watch.batches = 100
    ran(watch, clock, [10.0] * 40)
    assert reporter.status.seconds_left == 2600.0
    ran(watch, clock, [1.0] * 26)
    assert reporter.status.seconds_left == 274.0


def test_when_all_is_done_no_time_is_left(reporter: Reporter, watch: StatusCallback, clock: SimpleNamespace):
    for epoch in range(3):
        watch.on_epoch_begin(epoch)
        for batch in range(2):
            clock.now += 1
            watch.on_train_batch_end(batch)
        watch.on_epoch_end(epoch, LOGS)
    assert (reporter.status.epoch, reporter.status.seconds_left) == (3, 0.0)


def test_a_batch_faster_than_the_clock_is_no_error(watch: StatusCallback, clock: SimpleNamespace):
    watch.on_epoch_begin(0)
    watch.on_train_batch_end(0)


def test_without_a_stop_file_it_goes_on_and_with_one_it_ends_after_the_batch(place: Path, watch: StatusCallback):
    watch.on_epoch_begin(0)
    watch.on_train_batch_end(0)
    (place / "stop").touch()
    with pytest.raises(StopRequested):
        watch.on_train_batch_end(1)


def test_a_stop_ends_a_real_fit_after_the_first_batch(place: Path, watch: StatusCallback, reporter: Reporter):
    (place / "stop").touch()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(StopRequested):
        model.fit(np.zeros((14, 2)), np.zeros((14, 1)), batch_size=7, epochs=3, verbose=0, callbacks=[watch])
    assert (reporter.status.epoch, reporter.status.batch) == (0, 1)
    assert not (place / "history.csv").exists()


@pytest.fixture
def core() -> keras.Model:
    return registry.build("custom_cnn", classes=3, size=32, dropout=0.0)


@pytest.fixture
def saved() -> keras.Model:
    """The network that is saved, another one than that which learns."""
    return registry.build("custom_cnn", classes=3, size=32, dropout=0.0)


def keeping(core: keras.Model, saved: keras.Model, place: Path, by: str) -> BestModelCheckpoint:
    """Set up as `fit` does: told of the training wrapper, looking at the model inside."""
    grey = keras.Input((32, 32, 1))
    wrapper = keras.Model(grey, core(keras.layers.Concatenate()([grey, grey, grey])))
    callback = BestModelCheckpoint(core, saved, place / MODEL, by=by)
    callback.set_model(wrapper)
    callback.on_train_begin()
    return callback


@pytest.fixture
def keep(core: keras.Model, saved: keras.Model, place: Path) -> BestModelCheckpoint:
    return keeping(core, saved, place, "val_accuracy")


def end(keep: BestModelCheckpoint, epoch: int, logs: dict[str, float]) -> None:
    """Make the calls of Keras at the end of an epoch: first its validation ends."""
    keep.on_test_end(logs)
    keep.on_epoch_end(epoch, logs)


def mark(core: keras.Model, value: int) -> None:
    """Make the weights those of one epoch."""
    layer = core.get_layer("probabilities")
    layer.set_weights([layer.get_weights()[0], np.full(3, value, np.float32)])


def kept(place: Path) -> keras.Model:
    return keras.saving.load_model(place / MODEL, compile=False)


def kept_mark(place: Path) -> int:
    return int(kept(place).get_layer("probabilities").get_weights()[1][0])


@pytest.mark.parametrize(
    ("by", "accuracies", "losses", "epochs"),
    [
        ("val_accuracy", [0.5, 0.75, 0.6], [1, 2, 0.1], [1, 2, 2]),
        ("val_accuracy", [0.1, 0.2, 0.3], [1, 2, 3], [1, 2, 3]),
        ("val_accuracy", [0.75, 0.75, 0.5], [1, 1, 1], [1, 1, 1]),  # the first of equals
        ("val_accuracy", [0.75, 0.75, 0.75], [1, 2, 0.5], [1, 1, 3]),  # with the same accuracy the smaller loss
        ("val_accuracy", [0.0, 0.0, 0.0], [1, 1, 1], [1, 1, 1]),
        ("val_loss", [0.9, 0.1, 0.2], [3, 1, 2], [1, 2, 2]),
        ("val_loss", [0.1, 0.9, 0.2], [1, 1, 1], [1, 1, 1]),
        ("last", [0.9, 0.1, 0.2], [1, 3, 2], [1, 2, 3]),
    ],
)
def test_after_each_epoch_the_first_best_so_far_is_there(
    core: keras.Model,
    saved: keras.Model,
    place: Path,
    by: str,
    accuracies: list[float],
    losses: list[float],
    epochs: list[int],
):
    keep = keeping(core, saved, place, by)
    for epoch, (accuracy, loss, best) in enumerate(zip(accuracies, losses, epochs, strict=True), start=1):
        mark(core, epoch)
        end(keep, epoch - 1, {**LOGS, "val_loss": loss, "val_accuracy": accuracy})
        assert kept_mark(place) == best
        assert keep.since == epoch - best
        assert not (place / f".part.{MODEL}").exists()


def test_the_weights_kept_are_those_that_were_validated(keep: BestModelCheckpoint, core: keras.Model, place: Path):
    """Averaged ones are in the network only during the validation."""
    mark(core, 1)
    keep.on_test_end(LOGS)
    mark(core, 2)
    keep.on_epoch_end(0, LOGS)
    assert kept_mark(place) == 1


def test_patience_counts_epochs_that_were_no_better(keep: BestModelCheckpoint):
    patience = EarlyStopping(keep, 2)
    patience.set_model(keep.model)
    stops = []
    for epoch, accuracy in enumerate((0.5, 0.4, 0.6, 0.6, 0.5)):  # 0.6 twice with the same loss: no better
        end(keep, epoch, {**LOGS, "val_accuracy": accuracy})
        patience.on_epoch_end(epoch, LOGS)
        stops.append(patience.over)
    assert stops == [False, False, False, False, True]
    assert keep.model.stop_training


def test_patience_of_0_never_ends_it(keep: BestModelCheckpoint):
    patience = EarlyStopping(keep, 0)
    patience.set_model(keep.model)
    for epoch in range(5):
        end(keep, epoch, LOGS)
        patience.on_epoch_end(epoch, LOGS)
    assert not patience.over


def test_the_model_inside_is_kept_and_not_the_training_wrapper(
    keep: BestModelCheckpoint, core: keras.Model, place: Path
):
    end(keep, 0, LOGS)
    assert [layer.name for layer in kept(place).layers] == [layer.name for layer in core.layers]
    assert kept(place).input_shape == (None, 32, 32, 3)


def test_a_write_that_breaks_off_leaves_the_best_model_so_far(
    keep: BestModelCheckpoint, core: keras.Model, place: Path, monkeypatch: pytest.MonkeyPatch
):
    mark(core, 1)
    end(keep, 0, {**LOGS, "val_accuracy": 0.5})

    def half(_: keras.Model, path: Path) -> None:
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", half)
    with pytest.raises(WorkFailed, match="No space left"):
        end(keep, 1, {**LOGS, "val_accuracy": 0.9})
    assert kept_mark(place) == 1
    assert not (place / f".part.{MODEL}").exists()


def test_half_a_file_of_an_earlier_process_never_becomes_the_model(
    keep: BestModelCheckpoint, core: keras.Model, place: Path
):
    (place / f".part.{MODEL}").write_bytes(b"half a file")
    mark(core, 1)
    end(keep, 0, LOGS)
    assert kept_mark(place) == 1
    assert sorted(one.name for one in place.iterdir()) == [MODEL, "status.json"]


def test_an_epoch_whose_loss_is_no_number_is_never_the_best(keep: BestModelCheckpoint, core: keras.Model, place: Path):
    mark(core, 1)
    end(keep, 0, {**LOGS, "val_accuracy": 0.3})
    mark(core, 2)
    end(keep, 1, {"loss": np.nan, "accuracy": 0.4, "val_loss": np.nan, "val_accuracy": 0.4})
    assert kept_mark(place) == 1
    assert keep.since == 1


def test_a_folder_with_braces_in_its_name_is_as_good_as_any(core: keras.Model, saved: keras.Model, tmp_path: Path):
    (tmp_path / "my {home}").mkdir()
    end(keeping(core, saved, tmp_path / "my {home}", "val_accuracy"), 0, LOGS)
    assert (tmp_path / "my {home}" / MODEL).is_file()


def network(kind: str) -> keras.Model:
    """Of layers with states of their own: running means, random seeds, one network inside another, one layer used twice."""
    if kind != "own":
        return registry.build(kind, classes=3, size=64, dropout=0.2)
    inside = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6), keras.layers.BatchNormalization()])
    twice = keras.layers.Dense(6, name="twice")
    inputs = keras.Input((64, 64, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3)(inputs))
    x = keras.layers.Dropout(0.5)(keras.layers.LayerNormalization()(twice(twice(inside(x)))))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own", "custom_cnn", "ann", "resnet18"])
def test_each_file_holds_the_weights_that_were_validated(tmp_path: Path, kind: str):
    learner = network(kind)
    keep = BestModelCheckpoint(learner, keras.models.clone_model(learner), tmp_path / MODEL, by="val_loss")
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        weights = [rng.uniform(0.1, 0.2, array.shape).astype(array.dtype) for array in learner.get_weights()]
        learner.set_weights(weights)
        keep.on_test_end()
        keep.on_epoch_end(seed, {**LOGS, "val_loss": 1.0 - 0.5 * seed})
        loaded = keras.saving.load_model(tmp_path / MODEL, compile=False)
        for array, expected in zip(loaded.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(array, expected)
        np.testing.assert_array_equal(loaded.predict_on_batch(images), learner.predict_on_batch(images))
