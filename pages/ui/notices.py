"""Sentences and marks that several pages show."""

import streamlit as st

from cxr_core.data import datasets
from cxr_core.data.datasets import Dataset

DISCLAIMER = "Research software, not a medical device. Nothing shown here may guide the care of a patient."


def disclaimer() -> None:
    """Shown on every page with a prediction."""
    st.warning(f"**{DISCLAIMER}**", icon=":material/health_and_safety:")


def synthetic(dataset: Dataset) -> None:
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


def of_data(name: str) -> None:
    """The synthetic mark, for the dataset called `name`, if it is still here."""
    if name in datasets.names():
        synthetic(datasets.get(name))
