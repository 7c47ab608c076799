"""What the results pages compute once: answers and figures of runs, keyed by the run's id and its file's time."""

from collections.abc import Collection
from dataclasses import astuple

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core.data import datasets, decisions
from cxr_core.errors import CxrError, UnknownName
from cxr_core.evaluation import bootstrap, comparison, fitted, image_metadata, metrics, prediction_set, subgroups
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run

COUNTS, LEVELS, TERMS = ("counts",), ("levels",), ("terms",)  # see `bootstrap.PARTS`
ALL = bootstrap.PARTS


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


def _known(run: Run) -> str:
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
def _called(run_id: str, split: str, stamp: int, by: tuple) -> PredictionSet:
    return fitted.decided(_answers(run_id, split, stamp), fitted.Point(*by))


def decided_set_of(run: Run, split: str, by: fitted.Point | None) -> PredictionSet:
    """As `answers_of`, each image called what the operating point says, if there is one."""
    return _called(run.id, split, _stamp(run, split), astuple(by)) if by else prediction_set_of(run, split)


@st.cache_resource(max_entries=90, show_spinner=False)
def _background(run_id: str, split: str, stamp: int, data: str, known: str) -> pd.DataFrame | None:  # noqa: ARG001
    return image_metadata.read(_answers(run_id, split, stamp), data)


def image_metadata_of(run: Run, split: str) -> pd.DataFrame | None:
    """What the dataset knows of the images, row by row of `answers_of`; None if it is gone."""
    return _background(run.id, split, _stamp(run, split), run.config.data, _known(run))


@st.cache_resource(max_entries=400, show_spinner="Drawing patients again, 2,000 times …")
def _spread(
    run_id: str, split: str, stamp: int, data: str, known: str, part: str, heat: float = 1.0, by: tuple = ()
) -> tuple[metrics.Resampled, metrics.Metrics]:
    """One part of a run's figures in every resample, and read off; 0.1 to 0.2 MB each."""
    found = fitted.tempered(_called(run_id, split, stamp, by) if by else _answers(run_id, split, stamp), heat)
    about = _background(run_id, split, stamp, data, known)
    how = metrics.resample(found, None if about is None else about["patient"], parts=(part,))
    return how, metrics.from_resampled(found, how, (part,))


def metrics_of(
    run: Run, split: str, parts: Collection[str], *, heat: float = 1.0, by: fitted.Point | None = None
) -> metrics.Metrics:
    """Figures of a run on a split with their intervals, as they are, after a temperature, or at an operating point.

    Args:
        parts: of ALL; each is computed once, when it is first asked for. Areas are the same at any operating point.
    """
    key = (run.id, split, _stamp(run, split), run.config.data, _known(run))
    card: metrics.Metrics = {}
    for part in parts:
        card |= _spread(*key, part, heat, astuple(by) if by else ())[1]
    return card


@st.cache_resource(max_entries=64, show_spinner=False)
def _temperature(run_id: str, stamp: int) -> fitted.Temperature:  # noqa: ARG001 - part of the key
    return fitted.fit_temperature(run_id)


def temperature_of(run: Run) -> fitted.Temperature:
    """The temperature that the run's validation images ask for."""
    return _temperature(run.id, _stamp(run, fitted.SPLIT))


@st.cache_resource(max_entries=32, show_spinner=False)
def _subgroups(
    run_id: str,
    split: str,
    stamp: int,
    data: str,
    known: str,
    decided: tuple,  # noqa: ARG001
    by: tuple,
) -> pd.DataFrame | None:
    about = _background(run_id, split, stamp, data, known)
    found = _called(run_id, split, stamp, by) if by else _answers(run_id, split, stamp)
    return None if about is None else subgroups.subgroup_table(found, about)


def subgroups_of(run: Run, split: str, *, by: fitted.Point | None = None) -> pd.DataFrame | None:
    """See `subgroups.table`, at an operating point if one is given; None if the dataset is gone."""
    known = _known(run)
    decided = decisions.fingerprint(run.config.data) if known else ()
    return _subgroups(run.id, split, _stamp(run, split), run.config.data, known, decided, astuple(by) if by else ())


@st.cache_resource(max_entries=400, show_spinner="Comparing …")
def _differences(first: tuple, second: tuple, part: str) -> metrics.Metrics:
    shared = prediction_set.shared_images([_answers(*first[:3]), _answers(*second[:3])])
    one, other = shared.members
    about = _background(*first)
    if about is not None:
        about = about.iloc[pd.Index(_answers(*first[:3]).ids).get_indexer(pd.Index(one.ids))]
    return comparison.differences(one, other, None if about is None else about["patient"], parts=(part,))


@st.cache_resource(max_entries=400, show_spinner=False)
def _same_images(first: tuple, second: tuple) -> bool:
    """Whether two runs have met the same images of the same patients in the same order, so that their draws are one."""
    one, other = _answers(*first[:3]), _answers(*second[:3])
    return (
        first[3:] == second[3:]
        and one.classes == other.classes
        and np.array_equal(one.ids, other.ids)
        and np.array_equal(one.true, other.true)
    )


def difference_of(first: Run, second: Run, split: str, figure: str) -> metrics.Estimate:
    """One figure of `differences_of`."""
    return differences_of(first, second, split, metrics.parts_of(figure), only=figure)[figure]


def differences_of(
    first: Run, second: Run, split: str, parts: Collection[str] = ALL, *, only: str = ""
) -> metrics.Metrics:
    """Second less first on the images that both have answered, figure by figure, or of one figure only.

    Raises:
        BadInput: other classes, or no image in common.
    """
    keys = [(run.id, split, _stamp(run, split), run.config.data, _known(run)) for run in (first, second)]
    same = _same_images(*keys)
    found: metrics.Metrics = {}
    for part in parts:
        if not same:
            found |= _differences(*keys, part)
            continue
        (one, before), (other, after) = (_spread(*key, part) for key in keys)
        found |= {
            name: comparison.change(name, before[name].value, after[name].value, one, other)
            for name in before
            if only in ("", name)
        }
    return found
