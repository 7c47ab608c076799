"""The settings of a run: one frozen, flat dataclass of plain types, saved as `config.json` in the run's folder."""

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cxr_core.data.seeds import MAX_SEED
from cxr_core.errors import BadInput, UnknownName
from cxr_core.models import catalogue, recipes
from cxr_core.models.catalogue import ALL

CLASS_WEIGHTS = ("none", "balanced")
SCHEDULES = ("constant", "cosine")
MONITORS = ("val_accuracy", "val_loss", "last")
PRECISIONS = ("auto", "float32")


def _options(meanings: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {meaning}" for name, meaning in meanings.items()) + "."


def _number(default: float, low: float, high: float, title: str, meaning: str, *, step: float = 0.05) -> Any:
    """`step` is by how much a person changes it at a time; whole numbers by 1."""
    step = 1 if isinstance(default, int) else step
    return field(default=default, metadata={"low": low, "high": high, "step": step, "title": title, "help": meaning})


def _choice(default: Any, title: str, meaning: str, options: tuple[Any, ...] = ()) -> Any:
    return field(default=default, metadata={"title": title, "help": meaning, "options": options})


@dataclass(frozen=True)
class RunConfig:
    """Settings of a run: its model, data and training. Build it with `make`, which knows the recipes and checks every value."""

    model: str
    recipe: str
    data: str
    manifest: str
    classes: tuple[str, ...]
    group: str = ""  # of the runs that were started together, empty for a run of its own
    epochs: int = _number(100, 1, 1000, "Epochs", "Passes over the training images.")
    batch_size: int = _number(100, 1, 1024, "Batch size", "Images per step; the paper uses 100.")
    seed: int = _number(0, 0, MAX_SEED, "Seed", "The same seed and data give the same result on the same machine.")
    weights: str = _choice(
        catalogue.SCRATCH, "Starting weights", f"{', '.join(catalogue.WEIGHTS)}, or the path of a weights file."
    )
    trained: str = _choice(
        ALL, "Trainable layers", _options(catalogue.TRAINABLE_PARTS), tuple(catalogue.TRAINABLE_PARTS)
    )
    head_epochs: int = _number(
        0, 0, 1000, "Head epochs", "The head alone is trained before the other trainable layers are unfrozen."
    )
    scaling: str = _choice(catalogue.OWN, "Pixel scaling", _options(catalogue.SCALINGS), tuple(catalogue.SCALINGS))
    head: str = _choice(catalogue.FLATTEN, "Pooling", _options(catalogue.POOLINGS), tuple(catalogue.POOLINGS))
    image_size: int = _number(180, 32, 512, "Image size", "Side of the square that images are resized to, in pixels.")
    train_size: int = _number(
        0,
        0,
        512,
        "Training image size",
        "Side of the square seen in training, in pixels, where the whole network is trained and its head averages; 0, or more than "
        "the image size: the image size. Smaller is faster.",
    )
    learning_rate: float = _number(0.0005, 1e-6, 1.0, "Learning rate", "Step size of the Adam optimiser.", step=1e-5)
    schedule: str = _choice(
        "constant", "Learning rate schedule", "cosine: from the learning rate down to a hundredth of it.", SCHEDULES
    )
    warmup: float = _number(
        0.0,
        0.0,
        100.0,
        "Learning rate warm-up",
        "Epochs over which the learning rate rises from 0 at the beginning.",
        step=0.5,
    )
    weight_decay: float = _number(0.0, 0.0, 1.0, "Weight decay", "Pull of every weight towards 0, per step.", step=1e-5)
    average: float = _number(
        0.0,
        0.0,
        0.9999,
        "EMA decay",
        "Exponential moving average of the weights: the share of the mean kept at each step; 0: no averaging.",
        step=0.001,
    )
    label_smoothing: float = _number(
        0.0, 0.0, 0.5, "Label smoothing", "Share of the target given to the other classes."
    )
    keep: str = _choice(
        "val_accuracy",
        "Checkpoint monitor",
        "The best epoch by validation accuracy, by validation loss, or the last one.",
        MONITORS,
    )
    shifted: bool = _choice(
        False,
        "Validate on perturbed copies",
        "The best epoch is selected on the validation images and a perturbed copy of each: exposure, sharpness and encoding.",
    )
    sensitivity: float = _number(
        0.0,
        0.0,
        1.0,
        "Target sensitivity",
        "Share of the images that are not normal which the decision rule finds on validation images; the rule is saved with the "
        "run. 0: none is fitted, and the highest probability is answered.",
    )
    patience: int = _number(0, 0, 1000, "Patience", "Training ends after so many epochs without improvement; 0: never.")
    dropout: float = _number(0.2, 0.0, 0.9, "Dropout", "Share of the dense layer that is dropped at random.")
    class_weights: str = _choice(
        "none", "Class weights", "balanced: classes are weighted by the inverse of their frequency.", CLASS_WEIGHTS
    )
    rotation: float = _number(7.0, 0.0, 45.0, "Rotation", "At most so many degrees either way.")
    translation: float = _number(0.05, 0.0, 0.5, "Translation", "Shift by at most this share of the side.")
    zoom: float = _number(0.1, 0.0, 0.5, "Zoom", "In or out by at most this share.")
    stretch: float = _number(
        0.0, 0.0, 0.5, "Aspect jitter", "Wider or narrower by at most this share, at the same height."
    )
    crop: float = _number(
        1.0,
        0.05,
        1.0,
        "Random resized crop",
        "A part of the image of at least this share of its area is shown at full size; 1: the whole image.",
    )
    crop_aspect: float = _number(
        4 / 3, 1.0, 2.0, "Crop aspect ratio", "Width to height of that part, by at most this factor either way."
    )
    border: float = _number(
        0.0, 0.0, 0.4, "Blank borders", "Each border is blanked half of the time, by at most this share of the side."
    )
    flip: bool = _choice(True, "Flip", "Mirror left and right, half of the time.")
    moved: float = _number(
        0.5,
        0.0,
        1.0,
        "Share augmented",
        "Share of the images that are cropped, rotated, shifted, zoomed and stretched, which blurs them a little.",
    )
    brightness: float = _number(0.1, 0.0, 0.9, "Brightness", "Up or down by at most this share of the grey range.")
    contrast: float = _number(0.1, 0.0, 0.9, "Contrast", "Up or down by at most this share.")
    gamma: float = _number(0.0, 0.0, 1.0, "Gamma", "Exponent of the grey curve, at most e to this power either way.")
    sharpness: float = _number(0.0, 0.0, 2.0, "Sharpness", "Blurred or sharpened by at most this share.")
    noise: float = _number(0.0, 0.0, 0.2, "Noise", "Deviation of added noise, at most this share of the grey range.")
    views: int = _number(
        0, 0, 20, "Augmented copies", "Per training image, where features of frozen layers are computed once."
    )
    test_flip: bool = _choice(False, "Test-time flip", "Predict the mean over the image and its mirror image.")
    precision: str = _choice(
        "auto", "Precision", "auto: half precision on a graphics card that has it, float32 elsewhere.", PRECISIONS
    )

    @property
    def size_in_training(self) -> int:
        """Side of what the network sees in training, in pixels.

        Heads that flatten have weights for each place, and features of frozen layers are computed once: both take one size.
        """
        any_size = catalogue.get(self.model).takes_any_size and self.head == catalogue.AVERAGE and self.trained == ALL
        return min(self.train_size, self.image_size) if self.train_size and any_size else self.image_size


SETTINGS: dict[str, Field[Any]] = {setting.name: setting for setting in fields(RunConfig) if setting.metadata}
"""The fields that `--set` and the Train page may change, with title, help and limits in the field's metadata."""


def make(
    *,
    model: str,
    recipe: str,
    data: str,
    manifest: str,
    classes: tuple[str, ...],
    settings: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The settings of a recipe, with changes.

    Args:
        settings: changes by name; strings are read as the setting's type, so that a command line can pass them on.

    Raises:
        UnknownName: no such model, recipe or setting; lists the known ones.
        BadInput: a value of the wrong type or out of range, or settings that do not fit the model.
    """
    changes = dict(settings or {})
    chosen = recipes.get(recipe, model=model, weights=str(changes.get("weights", "")))
    config = RunConfig(model=model, recipe=recipe, data=data, manifest=manifest, classes=tuple(classes))
    return with_settings(config, {**chosen.settings, **changes})


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """A copy of `config` with other settings, each checked, and all together against what the model offers."""
    changed = replace(config, **{name: _checked(name, value) for name, value in settings.items()})
    model = catalogue.get(changed.model)
    if changed.image_size < model.smallest:
        raise BadInput(
            f"{model.title} needs images of at least {model.smallest} pixels a side. Received: image_size={changed.image_size}."
        )
    if changed.trained not in model.parts:
        raise BadInput(
            f"{model.title} has no pretrained part that could stay frozen, so all of it learns (trained=all). "
            f"Received: trained={changed.trained}."
        )
    if 0 < changed.train_size < model.smallest:
        raise BadInput(
            f"{model.title} needs images of at least {model.smallest} pixels a side. Received: train_size={changed.train_size}."
        )
    return replace(changed, weights=_weights(model, changed.weights))


def _weights(model: catalogue.Architecture, weights: str) -> str:
    """The name as it is, or the whole path of the file."""
    if weights in model.weights:
        return weights
    offer = f"{model.title} can start from: {', '.join(model.weights)}" + (
        ", or a weights file." if model.has_backbone else "."
    )
    if weights in catalogue.WEIGHTS or not model.has_backbone:
        raise BadInput(f"{offer} Received: weights={weights}.")
    path = Path(weights).expanduser()
    if not path.is_file():
        raise BadInput(f"{offer} There is no file '{weights}'.")
    return str(path.resolve())


def with_manifest(config: RunConfig, manifest: str, classes: tuple[str, ...]) -> RunConfig:
    """The same settings on other frozen splits."""
    return replace(config, manifest=manifest, classes=classes)


def to_document(config: RunConfig) -> dict[str, Any]:
    return {**asdict(config), "classes": list(config.classes)}


def from_document(document: Any) -> RunConfig:
    """The reverse of `to_document`.

    Raises:
        UnknownName: a key that is no setting.
        BadInput: a key is missing, or it is no document of settings at all.
    """
    if not isinstance(document, dict):
        raise BadInput(f"Expected: an object of settings. Received: {type(document).__name__}.")
    names = [setting.name for setting in fields(RunConfig)]
    for name in document:
        if name not in names:
            raise UnknownName("setting", name, names)
    classes = document.get("classes")
    texts = [
        document[setting.name] for setting in fields(RunConfig) if setting.type is str and setting.name in document
    ]
    if not all(isinstance(text, str) for text in [*texts, *(classes if isinstance(classes, list) else [])]):
        raise BadInput("The run's config.json is damaged: it holds something else where a text belongs.")
    if classes is not None and not (isinstance(classes, list) and len(set(classes)) == len(classes) > 0):
        raise BadInput("The run's config.json is damaged: its classes are no list of different names.")
    try:
        return RunConfig(**{**document, "classes": tuple(document["classes"])})
    except (TypeError, KeyError) as error:
        raise BadInput(f"It lacks a setting ({error}).") from error


def _checked(name: str, value: Any) -> Any:
    if name not in SETTINGS:
        raise UnknownName("setting", name, SETTINGS)
    default, limits = SETTINGS[name].default, SETTINGS[name].metadata
    try:
        read = _read(type(default), value)
    except (ValueError, TypeError, OverflowError) as error:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise BadInput(f"The setting {name} takes {kind}. Received: '{value}'.") from error
    if limits.get("options") and read not in limits["options"]:
        raise UnknownName(name.replace("_", " ") + " setting", str(read), limits["options"])
    if "low" in limits and not limits["low"] <= read <= limits["high"]:
        low, high, came = (f"{number:,}" for number in (limits["low"], limits["high"], read))
        raise BadInput(f"The setting {name} lies between {low} and {high}. Received: {came[:100]}.")
    return read


def _read(kind: type, value: Any) -> Any:
    if kind is bool:
        if isinstance(value, str) and value.lower() in ("true", "false", "yes", "no", "1", "0"):
            return value.lower() in ("true", "yes", "1")
        if isinstance(value, bool):
            return value
        raise ValueError(value)
    if kind is int and not isinstance(value, str):
        if isinstance(value, bool) or int(value) != value:
            raise ValueError(value)
        return int(value)
    return kind(value)
