"""Cached predictions and metrics of runs, keyed by the run's id and its file's fingerprint."""

from collections.abc import Collection
from typing import NamedTuple, TypedDict, Unpack

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import workspace
from cxr_core.data import datasets, decisions
from cxr_core.errors import CxrError, UnknownName, sentence
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
from cxr_core.workspace import Fingerprint

COUNTS, LEVELS, TERMS = ("counts",), ("levels",), ("terms",)  # see `bootstrap.PARTS`
ALL = bootstrap.PARTS


class _Images(NamedTuple):
    """Arguments of `_metadata`; the first three are those of `_predictions`."""

    run_id: str
    split: str
    fingerprint: Fingerprint
    data: str
    created: str  # changes when the dataset is added anew; "" if it is gone


class _Key(NamedTuple):
    """Arguments of `_resampled`."""

    images: _Images
    rule: DecisionRule | None
    part: str
    temperature: float


class RuleChoice(TypedDict, total=False):
    """Arguments of `decision_rule.fit`."""

    positive: tuple[str, ...]
    threshold: float
    criterion: str
    target_sensitivity: float


def _fingerprint(run: Run, split: str) -> Fingerprint:
    """Changes whenever the predictions are written anew.

    Raises:
        UnknownName: the run or its predictions are gone.
    """
    fingerprint = workspace.fingerprint(runs.predictions_path(run.id, split))
    if fingerprint == (None,):  # deleted meanwhile
        raise UnknownName("run", run.id, runs.list_ids())
    return fingerprint


def _images(run: Run, split: str) -> _Images:
    try:
        created = datasets.get(run.config.data).created
    except CxrError:
        created = ""
    return _Images(run.id, split, _fingerprint(run, split), run.config.data, created)


@st.cache_resource(max_entries=90, show_spinner=False)
def _predictions(run_id: str, split: str, fingerprint: Fingerprint) -> PredictionSet:  # noqa: ARG001 - part of the key
    return prediction_set.read(run_id, split)


def prediction_set_of(run: Run, split: str) -> PredictionSet:
    """Predictions of a run on a split; shared by all sessions, so never change them.

    Raises:
        CxrError: it has no such predictions, or they are not valid.
    """
    return _predictions(run.id, split, _fingerprint(run, split))


@st.cache_resource(max_entries=90, show_spinner=False)
def _decided(run_id: str, split: str, fingerprint: Fingerprint, rule: DecisionRule | None) -> PredictionSet:
    return decision_rule.decided(_predictions(run_id, split, fingerprint), rule)


def decided_set_of(run: Run, split: str, rule: DecisionRule | None) -> PredictionSet:
    """`prediction_set_of` with the classes of a decision rule; None: the most probable ones."""
    return _decided(run.id, split, _fingerprint(run, split), rule)


@st.cache_resource(max_entries=4000, show_spinner=False)
def _counts(run_id: str, split: str, fingerprint: Fingerprint, rule: DecisionRule) -> dict[str, Share]:  # noqa: ARG001 - part of the key
    return decision_metrics.count(prediction_set.read(run_id, split), rule)


def counts_of(run: Run, split: str, rule: DecisionRule) -> dict[str, Share]:
    """See `decision_metrics.count`; raises CxrError if the run has no such predictions."""
    return _counts(run.id, split, _fingerprint(run, split), rule)


@st.cache_resource(max_entries=4000, show_spinner=False)
def _shares(run_id: str, split: str, fingerprint: Fingerprint, rule: DecisionRule) -> tuple[metrics.Metrics, int]:  # noqa: ARG001 - part of the key
    decided = decision_rule.decided(prediction_set.read(run_id, split), rule)
    return metrics.wilson_estimates(decided), len(decided)


def share_of(run: Run, split: str, metric: str, rule: DecisionRule | None) -> tuple[metrics.Estimate, int] | None:
    """Accuracy, or a class's recall or precision, and the number of images; None for other metrics. For a thousand runs at once.

    Args:
        rule: None: the highest probability, whose metrics are in the run's own file.
    """
    if rule is None or rule.threshold is None:
        return leaderboard.stored_estimate(run.metrics[split], metric)
    estimates, n = _shares(run.id, split, _fingerprint(run, split), rule)
    return (estimates[metric], n) if metric in estimates else None


def rule_of(run: Run) -> DecisionRule:
    """The decision rule of a run; where it is damaged or void, the highest probability with that as its `problem`."""
    return rule_store.of_run_or_default(run.id) if rule_store.has_file(run.id) else DecisionRule(run.config.classes)


def headline_of(run: Run, split: str) -> tuple[metrics.Estimate, int, DecisionRule]:
    """The accuracy of a run by its decision rule, confident or not, the number of images, and the rule.

    Where the rule or the predictions cannot be read, that by highest probability; `problem` of the rule says why.
    """
    try:
        rule = rule_of(run)
        share = share_of(run, split, "accuracy", rule)
    except (CxrError, OSError) as error:
        rule, share = DecisionRule(run.config.classes, problem=sentence(error)), share_of(run, split, "accuracy", None)
    estimate, n = share or (metrics.Estimate(None, None, None, metrics.WILSON), 0)
    return estimate, n, rule


@st.cache_resource(max_entries=90, show_spinner=False)
def _metadata(run_id: str, split: str, fingerprint: Fingerprint, data: str, created: str) -> pd.DataFrame | None:  # noqa: ARG001
    return image_metadata.read(_predictions(run_id, split, fingerprint), data)


def image_metadata_of(run: Run, split: str) -> pd.DataFrame | None:
    """Metadata of the images, row by row of `prediction_set_of`; None if the dataset is gone."""
    return _metadata(*_images(run, split))


@st.cache_resource(max_entries=400, show_spinner="Bootstrapping, 2,000 resamples of patients …")
def _resampled(
    images: _Images, rule: DecisionRule | None, part: str, temperature: float
) -> tuple[metrics.Resampled, metrics.Metrics]:
    """One part of a run's metrics: replicates and estimates; 0.1 to 0.2 MB each."""
    predictions = decision_rule.calibrated(_decided(*images[:3], rule), temperature)
    metadata = _metadata(*images)
    resampled = metrics.resample(predictions, None if metadata is None else metadata["patient"], parts=(part,))
    return resampled, metrics.from_resampled(predictions, resampled, (part,))


def metrics_of(
    run: Run, split: str, parts: Collection[str], *, rule: DecisionRule | None, temperature: float | None = None
) -> metrics.Metrics:
    """Metrics of a run on a split with their intervals.

    Args:
        parts: of ALL; each is computed once, when it is first asked for. Areas are those of the network itself.
        rule: None: the most probable class.
        temperature: for TERMS; by default that of the rule.
    """
    estimates: metrics.Metrics = {}
    for part in parts:
        estimates |= _resampled(*_key(run, split, rule, part, temperature))[1]
    return estimates


def _key(run: Run, split: str, rule: DecisionRule | None, part: str, temperature: float | None = None) -> _Key:
    """Normalise a rule without a threshold to None, and rule and temperature where the metrics do not depend on them."""
    used_rule = rule if rule and rule.threshold is not None and (part,) != LEVELS else None
    used_temperature = 1.0 if (part,) != TERMS else temperature or (rule.temperature if rule else 1.0)
    return _Key(_images(run, split), used_rule, part, used_temperature)


@st.cache_resource(max_entries=64, show_spinner=False)
def _fitted(run_id: str, fingerprints: tuple[Fingerprint, ...], choice: RuleChoice) -> DecisionRule:
    pairs = zip(rule_store.SPLITS, fingerprints, strict=False)
    return decision_rule.fit([_predictions(run_id, split, fingerprint) for split, fingerprint in pairs], **choice)


def fitted_of(run: Run, **choice: Unpack[RuleChoice]) -> DecisionRule:
    """See `decision_rule.fit`, on the run's validation images, however few, and their perturbed copies."""
    splits = [split for split in rule_store.SPLITS if split in run.metrics]
    return _fitted(run.id, tuple(_fingerprint(run, split) for split in splits), choice)


@st.cache_resource(max_entries=32, show_spinner=False)
def _subgroups(images: _Images, rule: DecisionRule | None, decided: Fingerprint) -> pd.DataFrame | None:  # noqa: ARG001
    metadata = _metadata(*images)
    return None if metadata is None else subgroups.subgroup_table(_decided(*images[:3], rule), metadata)


def subgroups_of(run: Run, split: str, *, rule: DecisionRule | None) -> pd.DataFrame | None:
    """See `subgroups.subgroup_table`, by a decision rule or the most probable class; None if the dataset is gone."""
    images = _images(run, split)
    return _subgroups(images, rule, decisions.fingerprint(run.config.data) if images.created else ())


@st.cache_resource(max_entries=400, show_spinner="Comparing …")
def _differences(first: _Key, second: _Key) -> metrics.Metrics:
    first_set, second_set = _shared(first, second)
    metadata = _metadata(*first.images)
    if metadata is not None:
        metadata = metadata.iloc[pd.Index(_predictions(*first.images[:3]).ids).get_indexer(pd.Index(first_set.ids))]
    patients = None if metadata is None else metadata["patient"]
    return comparison.differences(first_set, second_set, patients, parts=(first.part,))


def _shared(first: _Key, second: _Key) -> list[PredictionSet]:
    """Predictions of two runs on their common images, each by its rule; for TERMS with calibrated probabilities."""
    keys = (first, second)
    shared = prediction_set.shared_images([_decided(*key.images[:3], key.rule) for key in keys])
    pairs = zip(shared.members, keys, strict=True)
    return [decision_rule.calibrated(predictions, key.temperature) for predictions, key in pairs]


@st.cache_resource(max_entries=400, show_spinner=False)
def _same_images(first: _Images, second: _Images) -> bool:
    """Check whether two runs have the same images of the same patients in the same order, so that resamples are shared."""
    first_set, second_set = _predictions(*first[:3]), _predictions(*second[:3])
    return (
        first[3:] == second[3:]
        and first_set.classes == second_set.classes
        and np.array_equal(first_set.ids, second_set.ids)
        and np.array_equal(first_set.true, second_set.true)
    )


RuledRun = tuple[Run, DecisionRule | None]  # a run, and the rule by which its classes are predicted


def difference_of(first: RuledRun, second: RuledRun, split: str, metric: str) -> metrics.Estimate:
    """One metric of `differences_of`."""
    return differences_of(first, second, split, metrics.parts_of(metric), only=metric)[metric]


def differences_of(
    first: RuledRun, second: RuledRun, split: str, parts: Collection[str] = ALL, *, only: str = ""
) -> metrics.Metrics:
    """Second - first on the images that both have predicted, of every metric or of one only.

    Raises:
        BadInput: other classes, or no image in common.
    """
    differences: metrics.Metrics = {}
    for part in parts:
        first_key, second_key = (_key(run, split, rule, part) for run, rule in (first, second))
        if not _same_images(first_key.images, second_key.images):
            differences |= _differences(first_key, second_key)
            continue
        (first_resampled, before), (second_resampled, after) = _resampled(*first_key), _resampled(*second_key)
        differences |= {
            name: comparison.change(name, before[name].value, after[name].value, first_resampled, second_resampled)
            for name in before
            if only in ("", name)
        }
    return differences


def points_of(first: RuledRun, second: RuledRun, split: str) -> list[dict[str, float]]:
    """Metrics of both runs, of which `differences_of` are the differences."""
    points: list[dict[str, float]] = [{}, {}]
    for part in ALL:
        first_key, second_key = (_key(run, split, rule, part) for run, rule in (first, second))
        for values, predictions in zip(points, _shared(first_key, second_key), strict=True):
            values.update(metrics.values(predictions, parts=(part,)))
    return points
