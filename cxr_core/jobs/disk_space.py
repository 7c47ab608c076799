"""Disk space that a training will need, and whether there is as much."""

import shutil

from cxr_core import workspace
from cxr_core.models import catalogue
from cxr_core.runs.config import RunConfig

_BESIDES = 2**24  # bytes for history, log and predictions


def bytes_needed(config: RunConfig) -> int:
    """Bytes: the model and the checkpoint, each the old one and the new one beside it, and the frozen part.

    A checkpoint holds three numbers for each that learns (itself and Adam's two means), or four with weight averaging.
    """
    model = catalogue.MODELS.get(config.model)
    if model is None:  # its own process will say that there is no such network
        return _BESIDES
    classes = len(config.classes)
    learning = model.learning(config.trained, classes, config.head)
    numbers = 2 * learning * (1 + (4 if config.average else 3))
    return 4 * (numbers + model.parameters(classes, config.head) - learning) + _BESIDES


def shortage(config: RunConfig) -> str:
    """The sentence that says what is missing; empty if there is room."""
    want, free = bytes_needed(config), shutil.disk_usage(workspace.ensure_dir(workspace.runs())).free
    if free >= want:
        return ""
    return (
        f"Waiting for room on the disk of {workspace.home()}: a training of {catalogue.title(config.model)} needs "
        f"{want / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free."
    )
