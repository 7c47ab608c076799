"""What the results pages compute once: predictions and metrics of runs, keyed by the run's id and its file's time."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.data import datasets, decisions
from cxr_core.errors import CxrError, UnknownName
from cxr_core.evaluation import (
    bootstrap,
    comparison,
    decision_metrics,
    decision_rule,
    image_metadata,
    leaderboard,
    metrics,
    prediction_set,
    rule_store,
    subgroups,
)
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.evaluation.intervals import Share
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run

COUNTS, LEVELS, TERMS = ("counts",), ("levels",), ("terms",)  # see `bootstrap.PARTS`
ALL = bootstrap.PARTS
Key = tuple[Any, ...]


def _stamp(run: Run, split: str) -> int:
    """Changes whenever the predictions are written anew.

    Raises:
        UnknownName: the run or its predictions are gone.
    """
    path = runs.predictions_path(run.id, split)
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError as error:  # deleted between two looks
        raise UnknownName("run", run.id, runs.list_ids()) from error


def _dataset_created(run: Run) -> str:
    """Changes when the run's dataset is added anew."""
    try:
        return datasets.get(run.config.data).created
    except CxrError:
        return ""


@st.cache_resource(max_entries=90, show_spinner=False)
def _answers(run_id: str, split: str, stamp: int) -> PredictionSet:  # noqa: ARG001 - part of the key
    return prediction_set.read(run_id, split)


def prediction_set_of(run: Run, split: str) -> PredictionSet:
    """What a run said of a split; shared by all sessions, so never change it.

    Raises:
        CxrError: it has no such predictions (any more), or they are not valid.
    """
    return _answers(run.id, split, _stamp(run, split))


@st.cache_resource(max_entries=90, show_spinner=False)
def _called(run_id: str, split: str, stamp: int, rule: DecisionRule | None) -> PredictionSet:
    return decision_rule.decided(_answers(run_id, split, stamp), rule)


def decided_set_of(run: Run, split: str, rule: DecisionRule | None) -> PredictionSet:
    """As `prediction_set_of`, each image called what the decision rule says; None: the most probable class."""
    return _called(run.id, split, _stamp(run, split), rule)


@st.cache_resource(max_entries=4000, show_spinner=False)
def _counts(run_id: str, split: str, stamp: int, rule: DecisionRule) -> dict[str, Share]:  # noqa: ARG001 - part of the key
    return decision_metrics.count(prediction_set.read(run_id, split), rule)


def counts_of(run: Run, split: str, rule: DecisionRule) -> dict[str, Share]:
    """See `decision_metrics.count`; raises CxrError if the run has no such predictions."""
    return _counts(run.id, split, _stamp(run, split), rule)


@st.cache_resource(max_entries=4000, show_spinner=False)
def _shares(run_id: str, split: str, stamp: int, rule: DecisionRule) -> tuple[metrics.Metrics, int]:  # noqa: ARG001 - part of the key
    decided = decision_rule.decided(prediction_set.read(run_id, split), rule)
    return metrics.wilson_estimates(decided), len(decided)


def share_of(run: Run, split: str, metric: str, rule: DecisionRule | None) -> tuple[metrics.Estimate, int] | None:
    """Accuracy, or a class's recall or precision, and the number of images; None for other metrics. For a thousand runs at once.

    Args:
        rule: by which images are called; None: the most probable class, of which the run's own file tells.
    """
    if rule is None or rule.threshold is None:
        return leaderboard.stored_estimate(run.metrics[split], metric)
    estimates, n = _shares(run.id, split, _stamp(run, split), rule)
    return (estimates[metric], n) if metric in estimates else None


def headline_of(run: Run, split: str) -> tuple[metrics.Estimate, int, str]:
    """The accuracy of a run with all images called by its decision rule, the number of images, and the rule in words.

    Where the rule or the predictions cannot be read, that by highest probability.
    """
    try:
        rule = rule_store.saved(run.id)
        share = share_of(run, split, "accuracy", rule)
    except (CxrError, OSError):  # the pages of the run say why
        rule, share = None, share_of(run, split, "accuracy", None)
    estimate, n = share or (metrics.Estimate(None, None, None, metrics.WILSON), 0)
    return estimate, n, formatting.decision_rule(rule) if rule else decision_rule.HIGHEST_PROBABILITY


@st.cache_resource(max_entries=90, show_spinner=False)
def _background(run_id: str, split: str, stamp: int, data: str, created: str) -> pd.DataFrame | None:  # noqa: ARG001
    return image_metadata.read(_answers(run_id, split, stamp), data)


def image_metadata_of(run: Run, split: str) -> pd.DataFrame | None:
    """What the dataset knows of the images, row by row of `prediction_set_of`; None if it is gone."""
    return _background(run.id, split, _stamp(run, split), run.config.data, _dataset_created(run))


@st.cache_resource(max_entries=400, show_spinner="Drawing patients again, 2,000 times …")
def _spread(
    run_id: str,
    split: str,
    stamp: int,
    data: str,
    created: str,
    rule: DecisionRule | None,
    part: str,
    temperature: float,
) -> tuple[metrics.Resampled, metrics.Metrics]:
    """One part of a run's figures in every resample, and read off; 0.1 to 0.2 MB each."""
    predictions = decision_rule.calibrated(_called(run_id, split, stamp, rule), temperature)
    metadata = _background(run_id, split, stamp, data, created)
    resampled = metrics.resample(predictions, None if metadata is None else metadata["patient"], parts=(part,))
    return resampled, metrics.from_resampled(predictions, resampled, (part,))


def metrics_of(
    run: Run, split: str, parts: Collection[str], *, rule: DecisionRule | None, temperature: float | None = None
) -> metrics.Metrics:
    """Figures of a run on a split with their intervals.

    Args:
        parts: of ALL; each is computed once, when it is first asked for. Areas are those of the network itself.
        rule: by which images are called; None: the most probable class.
        temperature: for TERMS; by default that of the rule.
    """
    card: metrics.Metrics = {}
    for part in parts:
        card |= _spread(*_key(run, split, rule, part, temperature))[1]
    return card


def _key(run: Run, split: str, rule: DecisionRule | None, part: str, temperature: float | None = None) -> Key:
    """Arguments of `_spread`; a rule without a threshold predicts the most probable class, areas depend on neither."""
    calls = rule if rule and rule.threshold is not None and (part,) != LEVELS else None
    heat = 1.0 if (part,) != TERMS else temperature or (rule.temperature if rule else 1.0)
    return run.id, split, _stamp(run, split), run.config.data, _dataset_created(run), calls, part, heat


@st.cache_resource(max_entries=64, show_spinner=False)
def _fitted(run_id: str, stamps: tuple[int, ...], choice: Key) -> DecisionRule:
    sets = [_answers(run_id, split, stamp) for split, stamp in zip(rule_store.SPLITS, stamps, strict=False)]
    return decision_rule.fit(sets, **dict(choice))


def fitted_of(run: Run, **choice: object) -> DecisionRule:
    """See `decision_rule.fit`, on the run's validation images, however few, and their perturbed copies."""
    splits = [split for split in rule_store.SPLITS if split in run.metrics]
    return _fitted(run.id, tuple(_stamp(run, split) for split in splits), tuple(choice.items()))


@st.cache_resource(max_entries=32, show_spinner=False)
def _subgroups(
    run_id: str,
    split: str,
    stamp: int,
    data: str,
    created: str,
    decided: Key,  # noqa: ARG001
    rule: DecisionRule | None,
) -> pd.DataFrame | None:
    about = _background(run_id, split, stamp, data, created)
    return None if about is None else subgroups.subgroup_table(_called(run_id, split, stamp, rule), about)


def subgroups_of(run: Run, split: str, *, rule: DecisionRule | None) -> pd.DataFrame | None:
    """See `subgroups.subgroup_table`, by a decision rule or the most probable class; None if the dataset is gone."""
    created = _dataset_created(run)
    decided = decisions.fingerprint(run.config.data) if created else ()
    return _subgroups(run.id, split, _stamp(run, split), run.config.data, created, decided, rule)


@st.cache_resource(max_entries=400, show_spinner="Comparing …")
def _differences(first: Key, second: Key) -> metrics.Metrics:
    one, other = _shared(first, second)
    about = _background(*first[:5])
    if about is not None:
        about = about.iloc[pd.Index(_answers(*first[:3]).ids).get_indexer(pd.Index(one.ids))]
    return comparison.differences(one, other, None if about is None else about["patient"], parts=(first[6],))


def _shared(first: Key, second: Key) -> list[PredictionSet]:
    """Two runs on the images that both have answered, each by its rule; for TERMS with calibrated probabilities."""
    shared = prediction_set.shared_images([_called(*key[:3], key[5]) for key in (first, second)])
    pairs = zip(shared.members, (first, second), strict=True)
    return [decision_rule.calibrated(predictions, key[7]) for predictions, key in pairs]


@st.cache_resource(max_entries=400, show_spinner=False)
def _same_images(first: Key, second: Key) -> bool:
    """Whether two runs have met the same images of the same patients in the same order, so that their draws are one."""
    one, other = _answers(*first[:3]), _answers(*second[:3])
    return (
        first[3:5] == second[3:5]
        and one.classes == other.classes
        and np.array_equal(one.ids, other.ids)
        and np.array_equal(one.true, other.true)
    )


Ruled = tuple[Run, DecisionRule | None]  # a run, and the rule by which its images are called


def difference_of(first: Ruled, second: Ruled, split: str, figure: str) -> metrics.Estimate:
    """One figure of `differences_of`."""
    return differences_of(first, second, split, metrics.parts_of(figure), only=figure)[figure]


def differences_of(
    first: Ruled, second: Ruled, split: str, parts: Collection[str] = ALL, *, only: str = ""
) -> metrics.Metrics:
    """Second less first on the images that both have answered, figure by figure, or of one figure only.

    Raises:
        BadInput: other classes, or no image in common.
    """
    differences: metrics.Metrics = {}
    for part in parts:
        keys = [_key(run, split, rule, part) for run, rule in (first, second)]
        if not _same_images(*(key[:5] for key in keys)):
            differences |= _differences(*keys)
            continue
        (first_resampled, before), (second_resampled, after) = (_spread(*key) for key in keys)
        differences |= {
            name: comparison.change(name, before[name].value, after[name].value, first_resampled, second_resampled)
            for name in before
            if only in ("", name)
        }
    return differences


def points_of(first: Ruled, second: Ruled, split: str) -> list[dict[str, float]]:
    """The figures of both, of which `differences_of` are the differences."""
    both: list[dict[str, float]] = [{}, {}]
    for part in ALL:
        keys = [_key(run, split, rule, part) for run, rule in (first, second)]
        for values, predictions in zip(both, _shared(*keys), strict=True):
            values.update(metrics.values(predictions, parts=(part,)))
    return both
