"""The paper's Table 4.1 beside the same three trainings done here."""

from collections.abc import Mapping, Sequence

import pandas as pd

from cxr_core.data import manifest
from cxr_core.errors import CxrError
from cxr_core.evaluation import leaderboard, paper
from cxr_core.models import recipes
from cxr_core.runs.folder import Run

COLUMNS = ("model", "split", "paper", "here", "low", "high", "difference", "within", "state", "weights", "run")


def latest(runs: Sequence[Run], data: str) -> dict[str, Run]:
    """The newest run of each of the paper's models on the dataset `data` by its recipe and on its official split.

    Args:
        runs: newest first.
    """
    found: dict[str, Run] = {}
    for run in runs:
        config = run.config
        if (
            config.model in paper.ACCURACY
            and config.model not in found
            and (config.data, config.recipe) == (data, recipes.PAPER)
        ) and _official(run):
            found[config.model] = run
    return found


def _official(run: Run) -> bool:
    try:
        return manifest.get(run.config.data, run.config.manifest).split == "official"
    except CxrError:
        return False


def table(found: Mapping[str, Run]) -> pd.DataFrame:
    """Table 4.1, one row a model and split.

    Args:
        found: runs by model, as `latest` gives them; of models without one only the paper's figures are there.

    Returns:
        COLUMNS; accuracies in [0, 1], `low` and `high` the 95 % interval of the one found here (Wilson), `difference` here
        less the paper's, `within` whether the paper's lies in the interval; None where there is nothing yet.
    """
    rows = []
    for model, printed in paper.ACCURACY.items():
        run = found.get(model)
        for split in leaderboard.SPLITS:
            figures = run.metrics.get(split) if run else None
            here = figures["accuracy"] if figures else None
            low, high = figures["ci95"]["accuracy"] if figures else (None, None)
            rows.append(
                {
                    "model": model,
                    "split": split,
                    "paper": printed[split],
                    "here": here,
                    "low": low,
                    "high": high,
                    "difference": None if here is None else here - printed[split],
                    "within": None if low is None or high is None else low <= printed[split] <= high,
                    "state": run.status.state if run else "",
                    "weights": run.config.weights if run else "",
                    "run": run.id if run else "",
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))
