"""Browse: filter and order the images of a dataset, page through them, open one, decide about some."""

import numpy as np
import streamlit as st

from cxr_core import formatting
from cxr_core.data import query
from cxr_core.data.datasets import Dataset
from cxr_core.data.query import Query
from pages.ui import cached_data, curation_bar, selectors

PER_PAGE = (24, 48, 96)


def asked(dataset: Dataset) -> Query:
    """The chosen filters and order."""
    sources = [str(one) for one in cached_data.index_of(dataset)["source"].cat.categories]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = st.pills(
            "Split",
            list(dataset.counts),
            selection_mode="multi",
            format_func=formatting.split_title,
            key="split",
            bind="query-params",
            help="Training images teach the network, validation images choose among its states, test images judge it.",
        )
        label = st.pills(
            "Class",
            dataset.classes,
            selection_mode="multi",
            format_func=formatting.class_title,
            key="class",
            bind="query-params",
        )
        source = st.pills("Source", sources, selection_mode="multi", key="source") if len(sources) > 1 else []
        state = st.pills(
            "Decisions",
            list(query.STATES),
            selection_mode="multi",
            format_func=query.STATES.__getitem__,
            key="state",
            bind="query-params",
        )
        search = st.text_input(
            "File, patient or tag contains", key="search", bind="query-params", width=230, placeholder="person1_virus"
        )
        sort = st.selectbox(
            "Order", list(query.SORTS), format_func=query.SORTS.__getitem__, key="sort", bind="query-params", width=210
        )
    return Query(tuple(split), tuple(label), tuple(source), search.strip(), tuple(state), sort)


def paging(total: int) -> slice:
    """Which of `total` rows to show."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.selectbox("Per page", PER_PAGE, key="per_page", persist_state="session", width=110)
        pages = max(1, -(-total // size))
        if st.session_state.get("page", 1) > pages:
            st.session_state["page"] = 1
        page = st.number_input(f"Page (of {pages:,})", 1, pages, key="page", width=170, step=1)
        first = (page - 1) * size
        if total:
            st.markdown(
                f"{first + 1:,} to {min(first + size, total):,} of **{formatting.plural(total, 'image')}**",
                width="content",
            )
        st.space("stretch")
        st.toggle(
            "Choose images", key="choosing", help="A click ticks an image; then exclude, relabel or tag what is ticked."
        )
    return slice(first, first + size)


st.title("Browse", anchor=False)
dataset = selectors.dataset_or_stop("No images yet")
found: np.ndarray = cached_data.select(dataset, asked(dataset))
if not len(found):
    st.info("No image fits these filters. Take one away.", icon=":material/filter_alt_off:")
    st.stop()
shown = cached_data.index_of(dataset).iloc[found[paging(len(found))]]
choosing = st.session_state["choosing"]
place = st.container()
chosen = curation_bar.choosing_gallery(dataset, shown, key=f"browse-{dataset.name}", choosing=choosing)
if choosing:
    with place:
        curation_bar.curation_bar(dataset, chosen, key=f"browse-{dataset.name}")
