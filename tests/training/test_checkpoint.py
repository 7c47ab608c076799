"""A training that was interrupted resumes to the result that it would have had; a damaged checkpoint is passed over."""

from pathlib import Path
from typing import Any

import keras
import pandas as pd
import pytest

from cxr_core.models import registry
from cxr_core.runs import run_store as runs
from cxr_core.training import checkpoint
from cxr_core.training.callbacks import StatusCallback
from cxr_core.training.fit import fit
from tests.training.test_fit import PIXELS, config, folder, manifest


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that has a state of its own in a network that compiles fast: running means, dropout, a changing optimizer."""

    def build(name: str = "", *, classes: int, size: int, **_: object) -> keras.Model:
        inputs = keras.Input((size, size, 3), name="image")
        x = keras.layers.Rescaling(1 / 255, name="scale")(inputs)
        x = keras.layers.Conv2D(4, 5, strides=4, activation="relu", name="conv")(x)
        x = keras.layers.BatchNormalization(name="norm")(x)
        x = keras.layers.Dropout(0.5, name="dropout")(keras.layers.Flatten(name="flatten")(x))
        return keras.Model(
            inputs, keras.layers.Dense(classes, activation="softmax", name="probabilities")(x), name="small"
        )

    monkeypatch.setattr(registry, "build", build)


class Interrupted(Exception):
    """The machine is switched off."""


def trained(place: Path, *, breaks: tuple[tuple[int, int], ...] = (), **changes: Any) -> pd.DataFrame:
    """The history of a training that is interrupted in batch b of epoch e (from 0), for each (e, b), and taken up again."""
    settings = config(**changes)
    whole = StatusCallback.on_train_batch_end
    with pytest.MonkeyPatch.context() as patch:
        for epoch, batch in breaks:

            def stop(
                watch: StatusCallback, number: int, logs: Any = None, at: tuple[int, int] = (epoch, batch)
            ) -> None:
                whole(watch, number, logs)
                if (watch._reporter.status.epoch, number) == at:
                    raise Interrupted

            patch.setattr(StatusCallback, "on_train_batch_end", stop)
            with pytest.raises(Interrupted):
                fit(settings, PIXELS, manifest(), place, folder(place, settings.epochs))
    fit(settings, PIXELS, manifest(), place, folder(place, settings.epochs))
    return runs.history_of_folder(place).drop(columns="seconds")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            **{"average": 0.9, "schedule": "cosine", "weight_decay": 1e-4, "label_smoothing": 0.1},
            **{"class_weights": "balanced", "gamma": 0.3, "noise": 0.05, "sharpness": 0.5, "keep": "val_loss"},
        },
    ],
    ids=["paper", "all settings"],
)
def test_an_interrupted_training_ends_as_an_unbroken_one(tmp_path: Path, changes: dict[str, Any]):
    changes = {"epochs": 4, **changes}
    unbroken = trained(tmp_path / "a", **changes)
    broken = trained(tmp_path / "b", breaks=((1, 1), (3, 0)), **changes)
    pd.testing.assert_frame_equal(broken, unbroken, check_exact=True)
    assert (tmp_path / "a" / "model.keras").stat().st_size == (tmp_path / "b" / "model.keras").stat().st_size


@pytest.mark.slow
def test_patience_goes_on_counting_where_it_was(tmp_path: Path):
    changes = {"epochs": 12, "patience": 2, "learning_rate": 0.05, "seed": 3}
    unbroken = trained(tmp_path / "a", **changes)
    assert 2 < len(unbroken) < 12
    last = len(unbroken) - 1
    pd.testing.assert_frame_equal(trained(tmp_path / "b", breaks=((last, 1),), **changes), unbroken, check_exact=True)


@pytest.mark.slow
def test_without_a_checkpoint_or_with_a_damaged_one_it_begins_anew(tmp_path: Path):
    unbroken = trained(tmp_path / "a", epochs=2)
    place = tmp_path / "b"
    trained(place, epochs=2)
    (state,) = (place / checkpoint.FOLDER).glob("*.npz")
    state.write_bytes(state.read_bytes()[:-200])
    assert checkpoint.read(place) is None
    pd.testing.assert_frame_equal(trained(place, epochs=2), unbroken, check_exact=True)
    (place / checkpoint.FOLDER / "checkpoint.json").write_text("{")
    assert checkpoint.read(place) is None
    checkpoint.clear(place)
    assert checkpoint.read(place) is None


@pytest.mark.slow
def test_only_the_latest_state_is_kept(tmp_path: Path):
    trained(tmp_path, epochs=3)
    assert sorted(path.name for path in (tmp_path / checkpoint.FOLDER).iterdir()) == ["3.npz", "checkpoint.json"]
