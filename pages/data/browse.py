"""Browse: filter the images of a dataset, page through them, open one."""

import pandas as pd
import streamlit as st

from cxr_core.data import datasets
from cxr_core.data.datasets import Dataset
from cxr_core.evaluation import figures
from pages.ui import loaders, notices, words
from pages.ui.gallery import Tile, gallery

PER_PAGE = (24, 48, 96)


def filters(dataset: Dataset, table: pd.DataFrame) -> pd.DataFrame:
    """The chosen rows; their index labels are still the rows of the packed array."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = st.pills(
            "Split",
            list(dataset.counts),
            selection_mode="multi",
            format_func=words.split,
            key="split",
            bind="query-params",
            help="Training images teach the network, validation images choose among its states, test images judge it.",
        )
        label = st.pills(
            "Class", dataset.classes, selection_mode="multi", format_func=words.label, key="class", bind="query-params"
        )
        sources = [str(one) for one in table["source"].cat.categories]
        source = st.pills("Source", sources, selection_mode="multi", key="source") if len(sources) > 1 else []
        search = st.text_input(
            "File or patient contains", key="search", bind="query-params", width=260, placeholder="person1_virus"
        )
    chosen = pd.Series(True, index=table.index)
    for column, values in (("split", split), ("class", label), ("source", source)):
        if values:
            chosen &= table[column].isin(values)
    if search:
        chosen &= table["id"].str.contains(search, case=False, regex=False) | table["patient"].str.contains(
            search, case=False, regex=False
        )
    return table[chosen]


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
                f"{first + 1:,} to {min(first + size, total):,} of **{words.plural(total, 'image')}**", width="content"
            )
    return slice(first, first + size)


@st.dialog("X-ray", width="large")
def large_view(dataset: Dataset, row: pd.Series) -> None:
    picture, facts = st.columns([3, 2])
    with picture:
        content = loaders.original(dataset.name, dataset.created, row["id"])
        st.image(content, width="stretch", alt=f"{words.label(row['class'])} chest image {row['id']}")
    with facts:
        st.markdown(f"**{words.label(row['class'])}**")
        notices.synthetic(dataset)
        st.table(
            pd.Series(
                {
                    "Split": words.split(row["split"]),
                    "Patient": row["patient"],
                    "File": row["id"],
                    "Size": f"{row['width']:,} × {row['height']:,} pixels",
                    "Format": f"{row['format']}, {row['mode']}, {row['bytes'] / 1024:,.1f} KB",
                    "Source": row["source"],
                    "SHA-256": row["sha256"][:16] + "…",
                },
                name="",
            )
        )
        st.page_link(
            "pages/model/predict.py",
            label="Ask a model about it",
            icon=":material/radiology:",
            query_params={"data": dataset.name, "image": row["id"]},
        )


st.title("Browse", anchor=False)
names = datasets.names()
if not names:
    notices.empty(
        "No images yet",
        "Add a dataset first. The synthetic one takes a few seconds.",
        page="pages/overview/home.py",
        link="Add a dataset",
        icon=":material/add:",
    )
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    name = st.selectbox("Dataset", names, key="data", bind="query-params", width=320)
    dataset = datasets.get(name)
    notices.synthetic(dataset)
table = loaders.index_of(dataset)
rows = filters(dataset, table)
if rows.empty:
    st.info("No image fits these filters. Take one away.", icon=":material/filter_alt_off:")
    st.stop()
shown = rows.iloc[paging(len(rows))]
tiles = [
    Tile(
        row.id,
        loaders.thumbnail(dataset, row.Index),
        words.label(row.label),
        f"{words.split(row.split)} · {row.id.rsplit('/', 1)[-1]}",
        figures.colour(row.label, dataset.classes.index(row.label)),
    )
    for row in shown.rename(columns={"class": "label"}).itertuples()
]
picked = gallery(tiles, key=f"gallery-{name}")
if picked is not None and (shown["id"] == picked).any():
    large_view(dataset, shown[shown["id"] == picked].iloc[0])
