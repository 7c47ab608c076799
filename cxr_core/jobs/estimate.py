"""How long a training will take on this machine: from runs like it that were done here, else computed."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cxr_core import machine
from cxr_core.data import features
from cxr_core.models import catalogue
from cxr_core.models.catalogue import ALL, HEAD
from cxr_core.runs import run_store
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run

_START = 12.0  # seconds until Keras is up and the network is built
_STEP = 0.004  # seconds that a step costs besides its arithmetic
_SCALES = 4  # a run says something of one on up to so many times its images
_BACKWARD = 3.0  # a step forward and back costs about three times a step forward


@dataclass(frozen=True)
class Estimate:
    """Seconds, from `low` to `high`; `measured`: from runs like it on this machine, else computed from its speed."""

    low: float
    high: float
    measured: bool


def estimate(config: RunConfig, images: Mapping[str, int], runs: Sequence[Run]) -> Estimate | None:
    """The time a run will take, made of the feature pass, the epochs, and the predictions.

    Args:
        config: its settings.
        images: how many in "train", "val" and "test".
        runs: all that there are.

    Returns:
        None on a graphics card on which no run like it was done yet.
    """
    epoch = _measured_epoch(config, images.get("train", 0), runs)
    if epoch is None and machine.list_gpus():
        return None
    once, computed = _computed(config, images)
    seconds = once + config.epochs * (computed if epoch is None else epoch)
    around = (0.6, 1.8) if epoch is None else (0.8, 1.3)
    return Estimate(seconds * around[0], seconds * around[1], epoch is not None)


def _measured_epoch(config: RunConfig, train: int, runs: Sequence[Run]) -> float | None:
    """Seconds of an epoch, by the pace of the latest run of this model on this machine that learnt the same part.

    The first epoch is left out, since it builds the graphs, and so are runs on much fewer images, where what an epoch costs
    besides its images would be counted many times over.
    """
    alike = ("model", "trained", "image_size", "batch_size")
    for run in runs:
        owner = run.status.owner
        if owner is None or owner["host"] != socket.gethostname() or not run.status.images:
            continue
        if any(getattr(run.config, name) != getattr(config, name) for name in alike):
            continue
        seconds = run_store.history(run.id)["seconds"][1:]
        if len(seconds) and run.status.images >= train / _SCALES:
            return float(np.median(seconds)) * train / run.status.images
    return None


def _computed(config: RunConfig, images: Mapping[str, int]) -> tuple[float, float]:
    """Seconds that it takes once, and for each epoch."""
    model = catalogue.get(config.model)
    pass_ = model.gflops * (config.image_size / 180) ** 2 / (model.pace * machine.gflops())  # one image, forward
    train, val, every = images.get("train", 0), images.get("val", 0), sum(images.values())
    mirrored = 2 if config.test_flip else 1
    steps = -(-train // config.batch_size) + -(-val // config.batch_size)
    if config.trained == ALL:
        return _START + mirrored * every * pass_, (_BACKWARD * train + val) * pass_ + steps * _STEP
    behind = 0.0 if config.trained == HEAD else model.tail
    missing = max(0, every + config.views * train + (every if config.test_flip else 0) - _known(config))
    learning = (_BACKWARD * train + val) * pass_ * behind + 2 * steps * _STEP
    return _START + missing * pass_ * (1 - behind) + mirrored * every * pass_ * behind, learning


def _known(config: RunConfig) -> int:
    """How many images' features are there already, of whatever dataset."""
    wanted = {name: getattr(config, name) for name in ("model", "weights", "trained", "scaling")}
    return max(
        (
            one.images
            for one in features.list_stores()
            if {**wanted, "size": config.image_size}.items() <= one.about.items()
        ),
        default=0,
    )
