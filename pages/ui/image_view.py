"""One image of a dataset large: its metadata, the network's input, augmented copies, its histogram."""

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.data.datasets import Dataset
from cxr_core.evaluation import plots
from cxr_core.images import Pixels
from pages.ui import cached_data
from pages.ui.theme import dark

TITLES = {"original": "Original", "input": "Network's input", "views": "Augmented", "histogram": "Histogram"}
COPIES = 9


@st.dialog("X-ray", width="large")
def show(dataset: Dataset, row: pd.Series) -> None:
    """Open the dialog; `row` is one of `cached_data.index_of`."""
    row_number = int(str(row.name))
    file = cached_data.file_of(dataset, row_number)
    picture, facts = st.columns([3, 2])
    with picture:
        view = st.segmented_control(
            "What to show", list(TITLES), default="original", required=True, format_func=TITLES.__getitem__,
            key="large-view", persist_state="session", label_visibility="collapsed",
        )  # fmt: skip
        if view == "original":
            content = cached_data.original_jpeg(dataset.name, dataset.version, row["id"])
            st.image(content, width="stretch", alt=f"{formatting.class_title(row['class'])} chest image {row['id']}")
        else:
            pixels = cached_data.pixels_of(dataset, row_number)
            {"input": _input, "views": _augmented, "histogram": _histogram}[view](pixels)
    with facts:
        st.markdown(f"**{formatting.class_markdown(row['class'])}**")
        if note := decisions_note(row):
            st.markdown(formatting.verbatim(note))
        if dataset.synthetic:
            st.caption(":material/draw: Synthetic image")
        metadata = {
            "Split": formatting.split_title(row["split"]),
            "Patient": row["patient"],
            "File": row["id"],
            "Size": f"{row['width']:,} × {row['height']:,} pixels",
            "Format": f"{file['format']}, {file['mode']}, {row['bytes'] / 1024:,.1f} KB",
            "Source": row["source"],
            "SHA-256": file["sha256"][:16] + "…",
        }
        st.table(pd.Series(metadata).map(formatting.verbatim), hide_header=True)
        st.page_link(
            "pages/model/predict.py", label="Classify this X-ray", icon=":material/radiology:",
            query_params={"data": dataset.name, "image": row["id"]},
        )  # fmt: skip


def decisions_note(row: pd.Series) -> str:
    """Decisions about an image: 'Excluded · Relabelled as viral pneumonia (was normal) · #look again'; "" if there are none."""
    notes = ["Excluded"] if row["excluded"] else []
    if row["relabelled"]:
        label, former = (formatting.class_title(row[name]).lower() for name in ("class", "was"))
        notes.append(f"Relabelled as {label} (was {former})")
    return " · ".join([*notes, *(f"#{tag}" for tag in row["tags"].split(", ") if tag)])


def _input(pixels: Pixels) -> None:
    st.image(cached_data.jpeg(pixels), width="stretch", alt="The image as the network receives it")
    st.caption(f"{pixels.shape[1]} × {pixels.shape[0]} pixels, grey, resized to a square: the input of the network.")


def _augmented(pixels: Pixels) -> None:
    from cxr_core.data.augment import AugmentationLimits, augmented_view  # SciPy, which takes long to import

    with st.expander("Limits of augmentation", icon=":material/tune:"), st.container(horizontal=True):
        limits = AugmentationLimits(
            rotation=st.slider("Rotation, degrees", 0.0, 45.0, 7.0, 1.0, width=140),
            translation=st.slider("Translation", 0.0, 0.5, 0.05, 0.05, width=140),
            zoom=st.slider("Zoom", 0.0, 0.5, 0.1, 0.05, width=140),
            stretch=st.slider("Aspect jitter", 0.0, 0.5, 0.0, 0.05, width=140),
            brightness=st.slider("Brightness", 0.0, 0.9, 0.1, 0.05, width=140),
            contrast=st.slider("Contrast", 0.0, 0.9, 0.1, 0.05, width=140),
            flip=st.checkbox("Flip", True),
        )
    columns = st.columns(3)
    for seed in range(COPIES):
        copy = cached_data.jpeg(augmented_view(pixels, seed, limits))
        columns[seed % 3].image(copy, width="stretch", alt=f"Augmented copy {seed + 1}")
    st.caption("Nine augmented copies; training generates new ones in every epoch.")


def _histogram(pixels: Pixels) -> None:
    st.plotly_chart(
        plots.pixel_histogram(pixels, dark=dark()),
        config=plots.CONFIG,
        key="histogram",
        alt="How often each grey value occurs",
    )
    st.caption(f"Mean {pixels.mean():.0f} of 255. {100 * (pixels == 0).mean():.0f} % of the pixels are black.")
