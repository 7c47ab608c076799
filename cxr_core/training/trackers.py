"""Experiment trackers fed while a run trains: TensorBoard and MLflow, both off by default.

`CXR_TRACKERS=tensorboard,mlflow` switches them on; each needs its package. TensorBoard reads `<home>/runs/<id>/tensorboard`;
MLflow is where its own variable MLFLOW_TRACKING_URI says, by default a file beside the runs.
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras

from cxr_core import workspace
from cxr_core.errors import BadInput
from cxr_core.runs.config import RunConfig

_NUMBERS = ("loss", "accuracy", "val_loss", "val_accuracy")


def requested() -> list[str]:
    """The trackers that are switched on.

    Raises:
        BadInput: one that is not known, or whose package is not installed.
    """
    names = [name.strip() for name in os.environ.get("CXR_TRACKERS", "").split(",") if name.strip()]
    for name in names:
        if name not in _TRACKERS:
            raise BadInput(f"CXR_TRACKERS lists any of {', '.join(_TRACKERS)}. Received: '{name}'.")
        if find_spec(name) is None:
            raise BadInput(f"CXR_TRACKERS asks for {name}, which is not installed. Install it with: pip install {name}")
    return names


def callbacks(config: RunConfig, folder: Path) -> list[Any]:
    """One Keras callback for each tracker that is switched on.

    Args:
        config: the run's settings, logged as parameters.
        folder: the run's folder.
    """
    return [_TRACKERS[name](config, folder) for name in requested()]


def _tensorboard(config: RunConfig, folder: Path) -> Any:  # noqa: ARG001 - one signature for all
    return keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False, update_freq="epoch")


class _Mlflow(keras.callbacks.Callback):
    """One MLflow run a training, under the experiment of its dataset; one that resumes after a break is the same."""

    def __init__(self, config: RunConfig, folder: Path):
        super().__init__()
        self._config, self._folder = config, folder
        self._client: Any = None
        self._id = ""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if self._client is not None:
            return
        import mlflow

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.home() / 'mlflow.db'}"
        self._client = client = mlflow.MlflowClient(uri)
        name = f"chest X-rays: {self._config.data}"
        existing = client.get_experiment_by_name(name)
        experiment = existing.experiment_id if existing else client.create_experiment(name)
        marked = client.search_runs([experiment], filter_string=f"tags.cxr_run = '{self._folder.name}'")
        if marked:
            self._id = marked[0].info.run_id
            return
        self._id = client.create_run(
            experiment, run_name=self._folder.name, tags={"cxr_run": self._folder.name}
        ).info.run_id
        for key, value in asdict(self._config).items():
            client.log_param(self._id, key, str(value)[:500])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for name in _NUMBERS:
            if name in (logs or {}):
                self._client.log_metric(self._id, name, float((logs or {})[name]), step=epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._client.set_terminated(self._id)


_TRACKERS: dict[str, Callable[[RunConfig, Path], Any]] = {"tensorboard": _tensorboard, "mlflow": _Mlflow}
