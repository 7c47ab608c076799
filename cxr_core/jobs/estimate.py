"""Estimate the duration of a training on this machine: from runs like it that were done here, else from its arithmetic alone."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr_core import machine, workspace
from cxr_core.data import features
from cxr_core.errors import WorkFailed
from cxr_core.models import catalogue
from cxr_core.models.catalogue import ALL, HEAD
from cxr_core.runs import run_store
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run

Range = tuple[float, float]
"""The least and the most seconds."""

_START: Range = (5.0, 30.0)  # until Keras is up and the network is built
_STEP: Range = (0.001, 0.02)  # that a step costs besides its arithmetic
# Share of the rate of large matrix products that networks reach. More than 1, since convolutions are done with fewer
# multiplications than are counted; an eighth where they are depthwise and wait for the memory.
_EFFICIENCY: Range = (0.125, 2.0)
_BACKWARD = 3.0  # a step forward and back costs about three times a step forward
_SPREAD: Range = (0.8, 1.3)  # of runs that are similar, as the machine is more or less busy
_RECENT = 3  # runs; one alone may have had a busy machine
_MAX_SCALE = 4  # a run tells something of one on up to so many times its images


@dataclass(frozen=True)
class Estimate:
    """Seconds, from `low` to `high`; `measured`: from runs like it on this machine, else computed from its speed."""

    low: float
    high: float
    measured: bool


def estimate(config: RunConfig, images: Mapping[str, int], runs: Sequence[Run]) -> Estimate | None:
    """The time a run will take: the start, features of the frozen part, the epochs, and the predictions.

    Args:
        config: its settings.
        images: how many in "train", "val" and "test".
        runs: all that there are.

    Returns:
        None on a graphics card on which no run like it was done yet.
    """
    model = catalogue.get(config.model)
    train, val, every = images.get("train", 0), images.get("val", 0), sum(images.values())
    learning = {ALL: 1.0, HEAD: 0.0}.get(
        config.trained, model.tail
    )  # share of a forward pass that is done in each step
    smaller = (config.size_in_training / config.image_size) ** 2
    passes = _BACKWARD * train * smaller + val  # forward passes, at the image size, that an epoch is worth
    similar = _similar(config, runs)
    epoch = _measured_epoch(similar, train)
    extraction = _measured_extraction(similar)
    missing = 0 if config.trained == ALL else _missing_features(config, train, every)
    if machine.list_gpus() and (epoch is None or (missing and extraction is None)):
        return None
    forward = _computed_forward(config)
    if epoch and config.trained == ALL and passes:
        forward = _times(epoch, 1 / passes)
    steps = -(-train // config.batch_size) + -(-val // config.batch_size)
    parts = [
        _START,
        _times(extraction or _times(forward, 1 - learning), missing),
        _times(epoch or _plus(_times(forward, passes * learning), _times(_STEP, steps)), config.epochs),
        _times(forward, learning * every * (2 if config.test_flip else 1)),
    ]
    low, high = _plus(*parts)
    return Estimate(low, high, epoch is not None)


def _times(range_: Range, factor: float) -> Range:
    return range_[0] * factor, range_[1] * factor


def _plus(*ranges: Range) -> Range:
    return sum(low for low, _ in ranges), sum(high for _, high in ranges)


def _similar(config: RunConfig, runs: Sequence[Run]) -> list[Run]:
    """The latest runs on this machine of the same network, at the same size, of which the same part learned."""
    names = ("model", "trained", "image_size", "size_in_training", "batch_size")
    similar: list[Run] = []
    for run in runs:
        owner = run.status.owner
        if owner is None or owner["host"] != socket.gethostname() or not run.status.images:
            continue
        if all(getattr(run.config, name) == getattr(config, name) for name in names):
            similar.append(run)
        if len(similar) == 2 * _RECENT:
            break
    return similar


def _measured_epoch(similar: Sequence[Run], train: int) -> Range | None:
    """Seconds of an epoch on `train` images, from the median epoch of each of the latest runs.

    The first epoch of a run is left out, since it builds the graphs, and so are runs on much fewer images, where what an
    epoch costs besides its images would be counted many times over.
    """
    medians = []
    for run in similar:
        seconds = run_store.history(run.id)["seconds"][1:]
        if len(seconds) and run.status.images >= train / _MAX_SCALE:
            medians.append(float(np.median(seconds)) * train / run.status.images)
        if len(medians) == _RECENT:
            break
    return _range_of(medians)


def _measured_extraction(similar: Sequence[Run]) -> Range | None:
    """Seconds of an image whose features were extracted, from the latest runs that extracted any."""
    per_image = []
    for run in similar:
        document = _description(run)
        extracted, seconds = document.get("features_made"), document.get("seconds")
        if isinstance(extracted, int) and isinstance(seconds, float | int) and extracted > 0 and seconds > 0:
            per_image.append(seconds / extracted)
        if len(per_image) == _RECENT:
            break
    return _range_of(per_image)


def _description(run: Run) -> dict[str, Any]:
    """Description of a run's frozen part; empty if it has none, or it is damaged."""
    try:
        document = workspace.read_json(run.folder / "trunk.json")
    except (FileNotFoundError, WorkFailed):
        return {}
    return document if isinstance(document, dict) else {}


def _range_of(values: Sequence[float]) -> Range | None:
    return (min(values) * _SPREAD[0], max(values) * _SPREAD[1]) if values else None


def _computed_forward(config: RunConfig) -> Range:
    """Seconds of one image through the whole network on this machine's processor."""
    gflop = catalogue.get(config.model).gflops * (config.image_size / 180) ** 2
    seconds = gflop / machine.gflops()
    return seconds / _EFFICIENCY[1], seconds / _EFFICIENCY[0]


def _missing_features(config: RunConfig, train: int, every: int) -> int:
    """Number of images whose features have to be extracted; those that are there, of whatever dataset, have not."""
    wanted = {name: getattr(config, name) for name in ("model", "weights", "trained", "scaling")}
    wanted["size"] = config.image_size
    there = max((store.images for store in features.list_stores() if wanted.items() <= store.about.items()), default=0)
    return max(0, every + config.views * train + (every if config.test_flip else 0) - there)
