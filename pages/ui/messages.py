"""Sentences and marks that several pages show."""

from collections.abc import Callable, Iterable
from typing import Any

import streamlit as st

from cxr_core import formatting
from cxr_core.data import datasets
from cxr_core.data.datasets import Dataset
from cxr_core.errors import CxrError
from cxr_core.evaluation import metrics
from cxr_core.formatting import DISCLAIMER
from cxr_core.jobs import background_jobs
from cxr_core.jobs.background_jobs import BackgroundJob


def unreadable(name: str, sentence: str) -> None:
    """A file that has no answer, and why; its name may be anything."""
    st.error(f"**{formatting.verbatim(name)}**: {formatting.verbatim(sentence)}", icon=":material/broken_image:")


def attempt(work: Callable[..., Any], *arguments: Any) -> None:
    """Run what a button asks for; if it fails, say why in a toast and leave the page as it is."""
    try:
        work(*arguments)
    except (CxrError, OSError) as error:
        st.toast(formatting.verbatim(str(error)), icon=":material/error:")


def disclaimer() -> None:
    """Shown on every page with a prediction."""
    st.warning(f"**{DISCLAIMER}**", icon=":material/health_and_safety:")


def save_plot_hint() -> None:
    """How a plot is taken away; once on every page with plots that are worth it."""
    st.caption(
        ":material/photo_camera: Point at a plot, or tap it: the camera above it saves it as PNG. In the report every plot can be "
        "saved as PNG and as SVG."
    )


def metric_meanings(names: Iterable[str]) -> None:
    """What figures mean, for whoever does not know their names."""
    titles = {**metrics.PER_CLASS, **metrics.TITLES}
    with st.expander("What the figures mean", icon=":material/help:"):
        st.markdown("\n".join(f"- **{titles[name]}**: {metrics.DESCRIPTIONS[name]}" for name in names))


def synthetic_notice(dataset: Dataset) -> None:
    """Says so wherever drawn images are shown."""
    if dataset.synthetic:
        st.badge(
            "Synthetic images",
            icon=":material/draw:",
            color="orange",
            help="Drawn by this software so that you can try it at once. They show no patient and prove nothing about medicine.",
        )


def empty(title: str, words: str, *, page: str, link: str, icon: str) -> None:
    """An empty state: what is missing, and the way on."""
    with st.container(border=True, horizontal_alignment="center"):
        st.subheader(title, anchor=False, text_alignment="center")
        st.markdown(words, text_alignment="center")
        st.page_link(page, label=link, icon=icon)


def synthetic_mark(name: str) -> None:
    """The synthetic mark, for the dataset called `name`, if it is still here."""
    if name in datasets.list_names():
        synthetic_notice(datasets.get(name))


_DOING = {"add": ("Adding", "added"), "audit": ("Auditing", "audited")}


def background_job(one: BackgroundJob) -> None:
    """How far work on a dataset is, with a way to stop it; or why it failed."""
    doing, done = _DOING[one.kind]
    with st.container(border=True):
        if one.problem:
            st.error(f"**{one.name}** could not be {done}. {one.problem}", icon=":material/error:")
        else:
            share = one.done / one.total if one.total else 0.0
            count = f" {one.done:,} of {one.total:,}" if one.total else " …"
            st.progress(min(share, 1.0), text=f"{doing} **{one.name}**: {one.stage}{count}")
        label = "Dismiss" if one.problem else "Stop"
        st.button(label, key=f"stop-{one.name}", on_click=attempt, args=(background_jobs.stop, one.name))
