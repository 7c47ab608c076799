"""Boxes for the dataset and the run, whose choice is in the address, and empty states where there is none."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from cxr_core import formatting
from cxr_core.data import datasets
from cxr_core.data.datasets import Dataset
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from pages.ui import messages, run_card, url_state


def run(label: str, usable: Sequence[Run], **looks: Any) -> Run:
    """The chosen one of `usable` runs, at least one, the newest first; without an address the best one, see `_best`."""
    by_id = {run.id: run for run in (_best(usable), *usable)}
    linked = st.query_params.get("run", "")
    refused = {linked: problem} if linked and linked not in by_id and (problem := why_no_results(linked)) else {}
    titles = run_card.titles(usable)
    return by_id[url_state.choice(label, list(by_id), key="run", kind="run", titles=titles, refused=refused, **looks)]


def _best(usable: Sequence[Run]) -> Run:
    """The most accurate of the runs that were validated on the same images as the newest; the newest if it was not."""

    def validation(run: Run) -> tuple[str, str, tuple[str, ...]]:
        return run.config.data, run.config.manifest, run.config.classes

    comparable = [run for run in usable if validation(run) == validation(usable[0])]
    return max(comparable, key=lambda run: run.validation_accuracy)


def why_no_results(run_id: str) -> str:
    """The reason why a run that exists has no results, as a sentence; empty if there is no such run."""
    if problem := runs.list_damaged().get(run_id):
        return f"The run '{run_id}' is damaged. {problem}"
    for run in runs.list_runs():
        if run.id == run_id:
            return f"The run '{run_id}' has no results: it is {formatting.RUN_STATES[run.status.state][0].lower()}."
    return ""


def page(count: int, *, key: str) -> int:
    """The chosen one of `count` pages, from 1; the first where there are fewer than before."""
    if st.session_state.get(key, 1) > count:
        st.session_state[key] = 1
    if count < 2:
        return 1
    return int(st.number_input(f"Page (of {count:,})", 1, count, key=key, persist_state="session", width=170))


def dataset_or_stop(empty: str) -> Dataset:
    """The chosen dataset, marked if it is synthetic; without any the page ends with an empty state titled `empty`."""
    real_first = sorted(datasets.list_datasets(), key=lambda dataset: dataset.synthetic)
    names = [dataset.name for dataset in real_first]
    if problem := datasets.list_damaged().get(st.query_params.get("data", "")):
        st.error(formatting.verbatim(problem), icon=":material/broken_image:")
    if not names:
        no_dataset(empty)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = datasets.get(url_state.choice("Dataset", names, key="data", width=320))
        messages.synthetic_notice(dataset)
    return dataset


def no_dataset(title: str) -> None:
    """The empty state that leads to adding one; the page ends here."""
    messages.empty(
        title,
        "Add a dataset first; the synthetic one takes a few seconds.",
        page="pages/overview/home.py",
        link="Add a dataset",
        icon=":material/add:",
    )
    st.stop()
