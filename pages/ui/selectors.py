"""Choices that the address of a page carries: which dataset, which run; or what to do where there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from cxr_core import formatting
from cxr_core.data import datasets
from cxr_core.data.datasets import Dataset
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from pages.ui import messages, run_card


def addressed(
    label: str,
    names: Sequence[str],
    *,
    key: str,
    kind: str,
    titles: Mapping[str, str] | None = None,
    refused: Mapping[str, str] | None = None,
    **looks: Any,
) -> str:
    """A selectbox whose choice is in the address by its name, whatever title it is shown under.

    A name that is not there (any more) is said so, and the first is shown instead; never without a word.

    Args:
        label: above the box.
        names: of the options, at least one.
        key: of the widget and in the address.
        kind: what is chosen, as a noun.
        titles: how the options are shown, by name.
        refused: sentences about what is there and cannot be chosen, by name.
        looks: passed on to `st.selectbox`.
    """
    state, titles = st.session_state, {one: (titles or {}).get(one, one) for one in names}
    asked, before = st.query_params.get(key, ""), state.get(f"{key}-before")
    if before and asked == before.address and (late := state.get(before.box)) in names and late != before.shown:
        asked = late  # chosen in the moment in which the options changed
    turn = 0 if before is None else before.turn
    # The browser knows an option by its title: under another one, or another address, the box is a new one.
    if before and (asked != before.address or titles != before.titles):
        turn += 1
    shown = asked if asked in names else names[0]
    if asked and asked not in names:
        if problem := (refused or {}).get(asked):
            st.error(f"{problem} Shown instead: {titles[shown]}.", icon=":material/error:")
        else:
            st.warning(
                f"There is no {kind} '{formatting.verbatim(asked)}' (any more). Shown instead: {titles[shown]}.",
                icon=":material/search_off:",
            )
    box = f"{key}-box-{turn}" if turn else f"{key}-box"
    chosen = str(
        st.selectbox(label, names, names.index(shown), key=box, format_func=lambda one: titles.get(one, one), **looks)
    )
    if chosen != shown or asked in names or not asked:  # what is gone for now stays in the address: it may come back
        st.query_params[key] = chosen
    state[f"{key}-before"] = _Before(st.query_params.get(key, ""), titles, box, chosen, turn)
    return chosen


@dataclass(frozen=True)
class _Before:
    """What a box showed when the page was drawn the last time."""

    address: str
    titles: dict[str, str]
    box: str
    shown: str
    turn: int


def run(label: str, usable: Sequence[Run], **looks: Any) -> Run:
    """The chosen one of `usable` runs, at least one, the newest first; without an address the best one, see `_best`."""
    best = _best(usable)
    by_id = {one.id: one for one in (best, *usable)}
    asked = st.query_params.get("run", "")
    refused = {asked: problem} if asked and asked not in by_id and (problem := why_no_results(asked)) else {}
    titles = run_card.titles(usable)
    return by_id[addressed(label, list(by_id), key="run", kind="run", titles=titles, refused=refused, **looks)]


def _best(usable: Sequence[Run]) -> Run:
    """Of the runs that were validated on the same images as the newest the most accurate there; the newest if it was not."""
    same = ("data", "manifest", "classes")
    alike = [one for one in usable if all(getattr(one.config, of) == getattr(usable[0].config, of) for of in same)]
    return max(alike, key=lambda one: float(one.metrics.get("val", {}).get("accuracy", 0.0)))


def why_no_results(run_id: str) -> str:
    """Why a run that is there has nothing to show, as a sentence; empty if there is no such run."""
    if problem := runs.list_damaged().get(run_id):
        return f"The run '{run_id}' is damaged. {problem}"
    for one in runs.list_runs():
        if one.id == run_id:
            return f"The run '{run_id}' has no results: it is {formatting.RUN_STATES[one.status.state][0].lower()}."
    return ""


def dataset_or_stop(empty: str) -> Dataset:
    """The chosen dataset, marked if it is synthetic; without any the page ends with an empty state titled `empty`."""
    found = sorted(datasets.list_datasets(), key=lambda one: one.synthetic)  # real X-rays before drawn ones
    names = [one.name for one in found]
    if why := datasets.list_damaged().get(st.query_params.get("data", "")):
        st.error(why, icon=":material/broken_image:")
    if not names:
        no_dataset(empty)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = datasets.get(addressed("Dataset", names, key="data", kind="dataset", width=320))
        messages.synthetic_notice(dataset)
    return dataset


def no_dataset(title: str) -> None:
    """The empty state that leads to adding one; the page ends here."""
    messages.empty(
        title,
        "Add a dataset first. The synthetic one takes a few seconds.",
        page="pages/overview/home.py",
        link="Add a dataset",
        icon=":material/add:",
    )
    st.stop()
