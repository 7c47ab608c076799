"""What the results pages compute once: answers and figures of runs, keyed by the run's id and its file's time."""

import pandas as pd
import streamlit as st

from cxr_core.data import datasets, decisions
from cxr_core.errors import CxrError
from cxr_core.evaluation import answers, background, comparison, fitted, scorecard, subgroups
from cxr_core.evaluation.answers import Answers
from cxr_core.runs import folder as runs
from cxr_core.runs.folder import Run


def _stamp(run: Run, split: str) -> int:
    return runs.predictions_path(run.id, split).stat().st_mtime_ns


def _known(run: Run) -> str:
    """Changes when the run's dataset is added anew."""
    try:
        return datasets.get(run.config.data).created
    except CxrError:
        return ""


@st.cache_resource(max_entries=90, show_spinner=False)
def _answers(run_id: str, split: str, stamp: int) -> Answers:  # noqa: ARG001 - part of the key
    return answers.read(run_id, split)


def answers_of(run: Run, split: str) -> Answers:
    """What a run said of a split; shared by all sessions, so never change it.

    Raises:
        CxrError: it has no such predictions (any more), or they are not valid.
    """
    return _answers(run.id, split, _stamp(run, split))


@st.cache_resource(max_entries=90, show_spinner=False)
def _background(run_id: str, split: str, stamp: int, data: str, known: str) -> pd.DataFrame | None:  # noqa: ARG001
    return background.of(_answers(run_id, split, stamp), data)


def background_of(run: Run, split: str) -> pd.DataFrame | None:
    """What the dataset knows of the images, row by row of `answers_of`; None if it is gone."""
    return _background(run.id, split, _stamp(run, split), run.config.data, _known(run))


@st.cache_resource(max_entries=200, show_spinner="Drawing patients again, 2,000 times …")
def _card(run_id: str, split: str, stamp: int, data: str, known: str, scores: bool) -> scorecard.Card:
    about = _background(run_id, split, stamp, data, known)
    return scorecard.card(_answers(run_id, split, stamp), None if about is None else about["patient"], scores=scores)


def card_of(run: Run, split: str, *, scores: bool = True) -> scorecard.Card:
    """All figures of a run on a split with their intervals; without `scores` those of the confusion matrix only."""
    return _card(run.id, split, _stamp(run, split), run.config.data, _known(run), scores)


@st.cache_resource(max_entries=64, show_spinner="Drawing patients again, 2,000 times …")
def _tempered_card(run_id: str, split: str, stamp: int, data: str, known: str, heat: float) -> scorecard.Card:
    about = _background(run_id, split, stamp, data, known)
    after = fitted.tempered(_answers(run_id, split, stamp), heat)
    return scorecard.card(after, None if about is None else about["patient"])


def tempered_card_of(run: Run, split: str, heat: float) -> scorecard.Card:
    """All figures of a run after a temperature."""
    return _tempered_card(run.id, split, _stamp(run, split), run.config.data, _known(run), heat)


@st.cache_resource(max_entries=64, show_spinner=False)
def _temperature(run_id: str, stamp: int) -> fitted.Temperature:  # noqa: ARG001 - part of the key
    return fitted.fit_temperature(run_id)


def temperature_of(run: Run) -> fitted.Temperature:
    """The temperature that the run's validation images ask for."""
    return _temperature(run.id, _stamp(run, fitted.SPLIT))


@st.cache_resource(max_entries=32, show_spinner=False)
def _subgroups(run_id: str, split: str, stamp: int, data: str, known: str, decided: tuple) -> pd.DataFrame | None:  # noqa: ARG001
    about = _background(run_id, split, stamp, data, known)
    return None if about is None else subgroups.table(_answers(run_id, split, stamp), about)


def subgroups_of(run: Run, split: str) -> pd.DataFrame | None:
    """See `subgroups.table`; None if the dataset is gone."""
    known = _known(run)
    decided = decisions.stamp(run.config.data) if known else ()
    return _subgroups(run.id, split, _stamp(run, split), run.config.data, known, decided)


@st.cache_resource(max_entries=200, show_spinner="Comparing …")
def _differences(
    first: tuple[str, str, int], second: tuple[str, str, int], data: str, known: str, scores: bool
) -> scorecard.Card:
    shared = answers.common([_answers(*first), _answers(*second)])
    one, other = shared.members
    about = _background(*first, data, known)
    if about is not None:
        about = about.iloc[pd.Index(_answers(*first).ids).get_indexer(pd.Index(one.ids))]
    return comparison.differences(one, other, None if about is None else about["patient"], scores=scores)


def differences_of(first: Run, second: Run, split: str, *, scores: bool = True) -> scorecard.Card:
    """Second less first on the images that both have answered.

    Raises:
        BadInput: other classes, or no image in common.
    """
    keys = [(run.id, split, _stamp(run, split)) for run in (first, second)]
    return _differences(*keys, first.config.data, _known(first), scores)
