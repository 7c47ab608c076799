"""Several runs as one: their mean, their weighted mean, or their majority. An ensemble is a run without a network of its own.

    <run>/ensemble.json    see Ensemble

Everything else in its folder is as in any run's: it has predictions and metrics, stands in the leaderboard, and can get a decision
rule. Images are classified by `inference.predict`, which loads the members that `of_run` gives and combines them with `combine`.
"""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from cxr_core import checksums, workspace
from cxr_core.arrays import Floats, softmax
from cxr_core.errors import BadInput, DamagedFile, UnknownName, WorkFailed
from cxr_core.evaluation import metrics, prediction_set, predictions
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig
from cxr_core.runs.status import Status

MODEL = "ensemble"
METHODS = {
    "mean": "The mean of the probabilities.",
    "weighted": "A weighted mean, the weights being those with the least log loss on the validation images.",
    "vote": "The share of the runs that vote for each class; ties go to the more probable.",
}


@dataclass(frozen=True)
class Ensemble:
    """`members` are run ids, `weights` sum to 1 and are equal unless the way is "weighted"."""

    members: tuple[str, ...]
    way: Literal["mean", "weighted", "vote"]
    weights: tuple[float, ...]


def of_run(run_id: str) -> Ensemble | None:
    """The members of an ensemble; None for a run with a network of its own.

    Raises:
        DamagedFile: its file is damaged.
        WorkFailed: a member has another model than when the ensemble was made.
    """
    path = runs.folder(run_id) / "ensemble.json"
    if not path.is_file():
        return None
    try:
        document = checksums.unseal(workspace.read_json(path))
        members, way, weights = document["members"], document["way"], document["weights"]
        if not isinstance(members, list) or len(members) < 2 or len(set(members)) < len(members) or way not in METHODS:
            raise ValueError(members, way)
        if not all(type(weight) in (int, float) for weight in weights):
            raise TypeError(weights)
        if len(weights) != len(members) or min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-6):
            raise ValueError(weights)  # NaN and infinity are not close to 1
        ensemble = Ensemble(tuple(map(workspace.validate_name, members)), way, tuple(map(float, weights)))
        models = dict(document.get("models", {}))
    except (TypeError, KeyError, ValueError, OverflowError, BadInput, DamagedFile) as error:
        raise DamagedFile(f"{path} is damaged. Delete the ensemble and create it again.") from error
    for member in ensemble.members:
        if models.get(member) and _model_of(member) not in ("", models[member]):
            raise WorkFailed(
                f"Run '{member}' has another model than when the ensemble '{run_id}' was made of it, so the ensemble gives no "
                "answer. Delete the ensemble and create it again."
            )
    return ensemble


def _model_of(run_id: str) -> str:
    """Fingerprint of a run's model; empty if run or model is gone, of which those tell who load it."""
    try:
        return runs.model_fingerprint(runs.folder(run_id))
    except UnknownName:
        return ""


def combine(members: Sequence[npt.ArrayLike], way: str, weights: Sequence[float] | None = None) -> Floats:
    """The probabilities of several runs combined into one.

    Args:
        members: one (…, k) array of probabilities per run.
        way: a key of METHODS.
        weights: one per run, for "weighted"; by default equal.

    Returns:
        (…, k) in [0, 1], summing to 1.
    """
    if way not in METHODS:
        raise UnknownName("ensemble method", way, METHODS)
    stack = np.stack([np.asarray(member, dtype=np.float64) for member in members])
    shares = np.full(len(stack), 1 / len(stack)) if weights is None or way != "weighted" else np.asarray(weights)
    mean: Floats = np.tensordot(shares, stack, axes=1)
    if way == "vote":
        votes = (stack.argmax(axis=-1)[..., None] == np.arange(stack.shape[-1])).mean(axis=0)
        slight = 1e-6
        mean = (votes + slight * mean) / (1 + slight)
    return mean / mean.sum(axis=-1, keepdims=True)


def fit_weights(true: npt.ArrayLike, members: Sequence[npt.ArrayLike]) -> tuple[float, ...]:
    """The weights, 0 or more and summing to 1, whose weighted mean has the least log loss on these images."""
    from scipy.optimize import minimize  # a live prediction fits nothing, and would wait for it

    stack = np.stack([np.asarray(member, dtype=np.float64) for member in members])
    codes = np.asarray(true, dtype=np.intp)
    given = stack[:, np.arange(len(codes)), codes]  # (m, n): all that the log loss sees

    def loss(logits: Floats) -> tuple[float, Floats]:
        shares = softmax(logits)
        mixed = np.maximum(shares @ given, 1e-12)
        slope = -(given / mixed).mean(axis=1)
        return float(-np.log(mixed).mean()), shares * (slope - shares @ slope)

    fitted = minimize(loss, np.zeros(len(stack)), jac=True, method="L-BFGS-B", bounds=[(-12, 12)] * len(stack))
    return tuple(softmax(fitted.x).tolist())


def create(run_ids: Sequence[str], way: str = "mean") -> str:
    """Write an ensemble of runs and return its id.

    Raises:
        UnknownName: no such run or method.
        BadInput: fewer than two different runs, an ensemble among them, other classes or datasets, no image in common, or
            weights without validation images.
    """
    if way not in METHODS:
        raise UnknownName("ensemble method", way, METHODS)
    ids = tuple(dict.fromkeys(run_ids))
    if len(ids) < 2:
        raise BadInput("An ensemble needs at least two different runs. Choose more.")
    members = [runs.get(run_id) for run_id in ids]
    if any(member.config.model == MODEL for member in members):
        raise BadInput("An ensemble is made of runs that have a network of their own, not of ensembles. Choose those.")
    first = members[0].config
    if len({(member.config.data, member.config.classes) for member in members}) > 1:
        raise BadInput("The runs of an ensemble have learned from the same dataset and classes. Choose such runs.")
    splits = [split for split in members[0].metrics if all(split in member.metrics for member in members)]
    if not splits:
        raise BadInput("The runs have no split in common on which all have answered. Choose others.")
    shared = {}
    for split in splits:
        with suppress(BadInput):  # folds have no validation image in common, and test images all the same
            shared[split] = prediction_set.shared_images([prediction_set.read(member, split) for member in ids])
    if not shared:
        raise BadInput("The runs have no image in common on which all have answered. Choose others.")
    weights: tuple[float, ...] = (1 / len(ids),) * len(ids)
    if way == "weighted":
        if "val" not in shared:
            raise BadInput("Weights are fitted on validation images, and these runs have none in common. Use the mean.")
        val = shared["val"].members
        weights = fit_weights(val[0].true, [member.probabilities for member in val])
    config = RunConfig(MODEL, way, first.data, first.manifest, first.classes)
    run_id = runs.make_id(config)
    folder = workspace.run(run_id)
    tables = {}
    for split, images in shared.items():
        combined = combine([member.probabilities for member in images.members], way, weights)
        tables[split] = images.members[0].with_probabilities(combined).table()
        predictions.write(folder / "predictions" / f"{split}.parquet", tables[split])
    models = {member: _model_of(member) for member in ids}
    document = {**asdict(Ensemble(ids, way, weights)), "models": models}  # type: ignore[arg-type]
    workspace.write_json(folder / "ensemble.json", checksums.seal(document))
    workspace.write_json(folder / "metrics.json", metrics.summary(tables, first.data))
    workspace.write_json(folder / "config.json", settings.to_document(replace(config, epochs=1)))
    now = time.time()
    states.write(folder, Status(state="finished", created=now, started=now, ended=now))  # last: now it is a run
    return run_id
