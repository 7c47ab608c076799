"""How a model is trained: the settings of each recipe, as plain data.

A recipe is a set of settings for `runs.config.RunConfig`; whatever it does not name keeps the default given there.
"""

from dataclasses import dataclass
from typing import Any

from cxr_core.errors import UnknownName
from cxr_core.models import catalogue


@dataclass(frozen=True)
class Recipe:
    name: str
    summary: str
    settings: dict[str, Any]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "paper",
            "As the paper trains: Adam, cross-entropy, batches of 100, up to 100 epochs, the epoch with the best "
            "validation accuracy is kept.",
            {},
        ),
    )
}


STEPS = 30  # in an epoch; with fewer a network hardly moves between two looks at the validation images
_SMALLEST_BATCH = 16  # below, batch normalisation sees too little


def batch_size(recipe: Recipe, *, usual: int, images: int) -> int:
    """The batch size to propose for a training set of `images`: the recipe's, else `usual`, or less for a small set.

    Returns:
        The largest size up to the recipe's that leaves STEPS steps an epoch, but not below 16.
    """
    asked = int(recipe.settings.get("batch_size", usual))
    return min(asked, max(_SMALLEST_BATCH, images // STEPS))


def get(name: str, *, model: str) -> Recipe:
    """The recipe `name` for `model`.

    Raises:
        UnknownName: no such model, or no such recipe for it; lists the known ones.
    """
    fitting = catalogue.get(model).recipes
    if name not in fitting:
        raise UnknownName(f"recipe for {model}", name, fitting)
    return RECIPES[name]
