"""The settings of a run: one frozen, flat dataclass of plain types, saved as `config.json` in the run's folder."""

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any

from cxr_core.errors import BadInput, UnknownName
from cxr_core.models import recipes

CLASS_WEIGHTS = ("none", "balanced")


def _number(default: float, low: float, high: float, title: str, meaning: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "title": title, "help": meaning})


def _choice(default: Any, title: str, meaning: str, options: tuple[Any, ...] = ()) -> Any:
    return field(default=default, metadata={"title": title, "help": meaning, "options": options})


@dataclass(frozen=True)
class RunConfig:
    """What was trained, on what, and how. Build it with `make`, which knows the recipes and checks every value."""

    model: str
    recipe: str
    data: str
    manifest: str
    classes: tuple[str, ...]
    epochs: int = _number(100, 1, 1000, "Epochs", "How often the network sees every training image.")
    batch_size: int = _number(100, 1, 1024, "Batch size", "Images per step; the paper uses 100.")
    seed: int = _number(0, 0, 2**31 - 1, "Seed", "The same seed and data give the same result on the same machine.")
    weights: str = _choice("none", "Starting weights", "none: trained from nothing.", ("none",))
    image_size: int = _number(180, 32, 512, "Image size", "Side of the square that images are resized to, in pixels.")
    learning_rate: float = _number(0.0005, 1e-6, 1.0, "Learning rate", "Step size of the Adam optimiser.")
    dropout: float = _number(0.2, 0.0, 0.9, "Dropout", "Share of the dense layer that is left out at random.")
    class_weights: str = _choice("none", "Class weights", "balanced: rarer classes count more.", CLASS_WEIGHTS)
    rotation: float = _number(7.0, 0.0, 45.0, "Rotation", "At most so many degrees either way.")
    translation: float = _number(0.05, 0.0, 0.5, "Translation", "Shift by at most this share of the side.")
    zoom: float = _number(0.1, 0.0, 0.5, "Zoom", "In or out by at most this share.")
    flip: bool = _choice(True, "Flip", "Mirror left and right, half of the time.")
    moved: float = _number(
        0.5,
        0.0,
        1.0,
        "Share moved",
        "Of the images, how many are rotated, shifted and zoomed; that blurs them a little.",
    )
    brightness: float = _number(0.1, 0.0, 0.9, "Brightness", "Up or down by at most this share of the grey range.")
    contrast: float = _number(0.1, 0.0, 0.9, "Contrast", "Up or down by at most this share.")


SETTINGS: dict[str, Field[Any]] = {one.name: one for one in fields(RunConfig) if one.metadata}
"""What `--set` and the Train page may change, with title, help and limits in the field's metadata."""


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
        BadInput: a value of the wrong type or out of range.
    """
    chosen = recipes.get(recipe, model=model)
    config = RunConfig(model=model, recipe=recipe, data=data, manifest=manifest, classes=tuple(classes))
    return changed(config, {**chosen.settings, **(settings or {})})


def changed(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """A copy of `config` with other settings, each checked."""
    return replace(config, **{name: _checked(name, value) for name, value in settings.items()})


def to_document(config: RunConfig) -> dict[str, Any]:
    return {**asdict(config), "classes": list(config.classes)}


def from_document(document: Any) -> RunConfig:
    """The reverse of `to_document`.

    Raises:
        UnknownName: a key that is no setting.
        BadInput: a key is missing, or it is no document of settings at all.
    """
    if not isinstance(document, dict):
        raise BadInput(f"The run's config.json is damaged: it holds {type(document).__name__} instead of settings.")
    known = [one.name for one in fields(RunConfig)]
    for name in document:
        if name not in known:
            raise UnknownName("setting", name, known)
    try:
        return RunConfig(**{**document, "classes": tuple(document["classes"])})
    except (TypeError, KeyError) as error:
        raise BadInput(f"The run's config.json lacks a setting ({error}).") from error


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
        low, high, came = (f"{one:,}" for one in (limits["low"], limits["high"], read))
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
