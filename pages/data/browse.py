"""Browse: filter and order the images of a dataset, page through them, open one, decide about some."""

import numpy as np
import streamlit as st

from cxr_core import formatting
from cxr_core.data import query
from cxr_core.data.datasets import Dataset
from cxr_core.data.query import Query
from pages.ui import cached_data, curation_bar, selectors, url_state

PER_PAGE = (24, 48, 96)


def asked(dataset: Dataset) -> Query:
    """The chosen filters and order."""
    sources = [str(one) for one in cached_data.index_of(dataset)["source"].cat.categories]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = url_state.choices(
            "Split",
            list(dataset.counts),
            key="browse-split",
            address="split",
            titles=formatting.SPLITS,
            help="Training images teach the network, validation images choose among its states, test images judge it.",
        )
        label = url_state.choices(
            "Class",
            dataset.classes,
            key="browse-class",
            address="class",
            titles={name: formatting.class_title(name) for name in dataset.classes},
        )
        source = url_state.choices("Source", sources, key="source") if len(sources) > 1 else ()
        state = url_state.choices("Decisions", list(query.STATES), key="state", titles=query.STATES)
        search = url_state.value(
            "File, patient or tag contains", key="search", default="", width=230, placeholder="person1_virus"
        )
        sort = url_state.choice(
            "Order", list(query.SORTS), key="sort", titles=query.SORTS, default=next(iter(query.SORTS)), width=210
        )
    return Query(split, label, source, search.strip(), state, sort)


def paging(total: int) -> tuple[slice, bool]:
    """Which of `total` rows to show, and whether a click ticks an image instead of opening it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.selectbox("Per page", PER_PAGE, key="per_page", persist_state="session", width=110)
        page = selectors.page(max(1, -(-total // size)), key="page")
        first = (page - 1) * size
        if total:
            st.markdown(
                f"{first + 1:,} to {min(first + size, total):,} of **{formatting.plural(total, 'image')}**",
                width="content",
            )
        st.space("stretch")
        choosing = curation_bar.choosing_switch("choosing")
    return slice(first, first + size), choosing


st.title("Browse", anchor=False)
dataset = selectors.dataset_or_stop("No images yet")
found: np.ndarray = cached_data.select(dataset, asked(dataset))
shown, choosing = paging(len(found))
if not len(found):
    st.info("No image matches these filters. Remove one.", icon=":material/filter_alt_off:")
    st.stop()
place = st.container()
key = f"browse-{dataset.name}"
chosen = curation_bar.choosing_gallery(
    dataset, cached_data.index_of(dataset).iloc[found[shown]], key=key, choosing=choosing
)
if choosing:
    with place:
        curation_bar.curation_bar(dataset, chosen, key=key)
