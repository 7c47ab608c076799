"""Browse: filter and sort the images of a dataset, page through them, open one, decide about some."""

import streamlit as st

from cxr_core import formatting
from cxr_core.data import query
from cxr_core.data.datasets import Dataset
from cxr_core.data.query import Query
from pages.ui import cached_data, curation_bar, image_selection, selectors, url_state

PER_PAGE = (24, 48, 96)


def filters(dataset: Dataset) -> Query:
    """The chosen filters and order."""
    sources = [str(name) for name in cached_data.index_of(dataset)["source"].cat.categories]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = url_state.choices(
            "Split",
            list(dataset.counts),
            key="browse-split",
            address="split",
            titles=formatting.SPLITS,
            help="Training images fit the network, validation images select its best epoch, test images measure it.",
        )
        label = url_state.choices(
            "Class",
            dataset.classes,
            key="browse-class",
            address="class",
            titles={name: formatting.class_markdown(name) for name in dataset.classes},
        )
        source = (
            url_state.choices(
                "Source", sources, key="source", titles={name: formatting.verbatim(name) for name in sources}
            )
            if len(sources) > 1
            else ()
        )
        state = url_state.choices("Decisions", list(query.STATES), key="state", titles=query.STATES)
        search = url_state.value(
            "File, patient or tag contains", key="search", default="", width=230, placeholder="person1_virus"
        )
        sort = url_state.choice(
            "Order", list(query.SORTS), key="sort", titles=query.SORTS, default=next(iter(query.SORTS)), width=210
        )
    return Query(split, label, source, search.strip(), state, sort)


def paging(total: int) -> tuple[slice, bool]:
    """The rows of `total` to show, and whether a click selects an image instead of opening it."""
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
        choosing = image_selection.choosing_switch("choosing")
    return slice(first, first + size), choosing


st.title("Browse", anchor=False)
dataset = selectors.dataset_or_stop("No images yet")
positions = cached_data.select(dataset, filters(dataset))
rows, choosing = paging(len(positions))
if not len(positions):
    st.info("No image matches these filters. Remove one.", icon=":material/filter_alt_off:")
    st.stop()
bar = st.container()
key = f"browse-{dataset.name}"
shown = cached_data.index_of(dataset).iloc[positions[rows]]
selected = image_selection.dataset_gallery(dataset, shown, key=key, choosing=choosing)
if choosing:
    with bar:
        curation_bar.curation_bar(dataset, selected, key=key)
