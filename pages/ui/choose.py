"""The choice of a dataset at the top of the data pages, or what to do where there is none."""

import streamlit as st

from cxr_core.data import datasets
from cxr_core.data.datasets import Dataset
from pages.ui import notices


def dataset_or_stop(empty: str) -> Dataset:
    """The chosen dataset, marked if it is synthetic; without any the page ends with an empty state titled `empty`."""
    names = datasets.names()
    if not names:
        no_dataset(empty)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = datasets.get(st.selectbox("Dataset", names, key="data", bind="query-params", width=320))
        notices.synthetic(dataset)
    return dataset


def no_dataset(title: str) -> None:
    """The empty state that leads to adding one; the page ends here."""
    notices.empty(
        title,
        "Add a dataset first. The synthetic one takes a few seconds.",
        page="pages/overview/home.py",
        link="Add a dataset",
        icon=":material/add:",
    )
    st.stop()
