"""TensorBoard and MLflow get a run's figures if they are asked to, and nothing if not."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from cxr_core.errors import BadInput
from cxr_core.runs import run_store as runs
from cxr_core.training import trackers
from cxr_core.training.fit import fit
from tests.training.test_fit import PIXELS, config, folder, manifest


@pytest.fixture(autouse=True)
def none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CXR_TRACKERS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def needs(package: str) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed here: pip install {package}")


def test_nothing_is_tracked_unless_asked(tmp_path: Path):
    assert trackers.callbacks(config(), tmp_path) == []


def test_an_unknown_tracker_or_one_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXR_TRACKERS", "tensorboard, abacus")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "mlflow" else object())
    with pytest.raises(BadInput, match=r"any of tensorboard, mlflow\. Received: 'abacus'"):
        trackers.requested()
    monkeypatch.setenv("CXR_TRACKERS", "mlflow")
    with pytest.raises(BadInput, match="pip install mlflow"):
        trackers.requested()


@pytest.mark.slow
def test_tensorboard_gets_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needs("tensorboard")
    monkeypatch.setenv("CXR_TRACKERS", "tensorboard")
    fit(config(), PIXELS, manifest(), tmp_path, folder(tmp_path))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(tmp_path / "tensorboard" / "validation"))
    events.Reload()
    told = [float(make_ndarray(one.tensor_proto)) for one in events.Tensors("epoch_loss")]
    assert told == pytest.approx(runs.history_of_folder(tmp_path)["val_loss"].tolist(), rel=1e-6)


def test_mlflow_gets_settings_and_every_epoch_in_one_run_also_after_a_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    needs("mlflow")
    import mlflow

    where = (tmp_path / "tracked").as_uri()
    monkeypatch.setenv("CXR_TRACKERS", "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    place = tmp_path / "run"
    place.mkdir()
    for epochs in (1, 3):  # the second resumes from the first's checkpoint
        fit(config(epochs=epochs), PIXELS, manifest(), place, folder(place, epochs))
    client = mlflow.MlflowClient(where)
    (experiment,) = [one for one in client.search_experiments() if one.name.startswith("chest X-rays")]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["model"] == "custom_cnn"
    told = [one.value for one in client.get_metric_history(run.info.run_id, "val_loss")]
    assert told == pytest.approx(runs.history_of_folder(place)["val_loss"].tolist(), rel=1e-6)
