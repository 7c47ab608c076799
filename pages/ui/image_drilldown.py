"""The images behind a number: a gallery, worst errors first, with the prediction for each, and decisions about them."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from cxr_core import formatting, images
from cxr_core.data import datasets
from cxr_core.data.datasets import Dataset
from cxr_core.errors import CxrError
from cxr_core.evaluation import plots
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs.run_store import Run
from pages.ui import cached_data, curation_bar, heatmaps, image_selection, image_view, messages, selectors
from pages.ui.gallery import Tile
from pages.ui.theme import dark

PER_PAGE = 24
VIEWS = {"image": "Image", "heatmap": "Heatmap"}


def worst_first(predictions: PredictionSet, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Positions of the images in a mask, by the probability of their true class, the least first."""
    positions = np.flatnonzero(mask)
    true_probability = predictions.probabilities[positions, predictions.true[positions]]
    return positions[np.argsort(true_probability, kind="stable")]


def show(
    run: Run, predictions: PredictionSet, metadata: pd.DataFrame | None, mask: npt.NDArray[np.bool_], *, key: str
) -> None:
    """Show the gallery of some images of a run.

    Args:
        metadata: `image_metadata.read` of the predictions; None if the dataset is gone: then a table is shown.
        mask: (n,) bool, which images.
        key: of the gallery; another one for other images.
    """
    positions = worst_first(predictions, mask)
    if not len(positions):
        st.caption("There is no such image.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        page = selectors.page(-(-len(positions) // PER_PAGE), key=f"page-{key}")
        st.markdown(f"**{formatting.plural(len(positions), 'image')}**, worst errors first", width="content")
        st.space("stretch")
        with_heatmaps = metadata is not None and st.toggle(
            "Heatmaps",
            key="mapped-cases",
            persist_state="session",
            help="Bright where the image contributed most to the predicted class.",
        )
        choosing = metadata is not None and image_selection.choosing_switch("choosing-cases")
    shown = positions[(page - 1) * PER_PAGE : page * PER_PAGE]
    if metadata is None:
        st.info(
            f"The dataset '{formatting.verbatim(run.config.data)}' is not in this workspace, so only file names are shown.",
            icon=":material/info:",
        )
        st.dataframe(predictions.take(shown).table(), hide_index=True, alt="Images and probabilities")
        return
    bar = st.container()
    tiles = _tiles(run, predictions, metadata, shown, with_heatmaps=with_heatmaps)
    picked = image_selection.selectable_gallery(tiles, key=key, choosing=choosing)
    if picked.opened is not None:
        large_view(run, predictions, metadata, int(np.flatnonzero(predictions.ids == picked.opened)[0]))
    if choosing:
        with bar:
            curation_bar.curation_bar(datasets.get(run.config.data), picked.chosen, key=key)
            curation_bar.record_link(datasets.get(run.config.data))


def _tiles(
    run: Run,
    predictions: PredictionSet,
    metadata: pd.DataFrame,
    positions: npt.NDArray[np.intp],
    *,
    with_heatmaps: bool,
) -> list[Tile]:
    names = metadata["data"].astype(str)
    sources = {name: datasets.get(name) for name in names.iloc[positions].unique()}
    tiles = []
    progress = st.progress(0.0, "Computing heatmaps …") if with_heatmaps else None
    for count, position in enumerate(positions):
        dataset, row_number = sources[names.iloc[position]], int(metadata["row"].iloc[position])
        if progress:
            progress.progress(count / len(positions), "Computing heatmaps …")
            predicted = predictions.classes[int(predictions.predicted[position])]
            picture = heatmaps.thumbnail(run, dataset, row_number, predicted)
        else:
            picture = cached_data.thumbnail(dataset, row_number)
        tiles.append(_tile(predictions, int(position), cached_data.row_of(dataset, row_number), picture))
    if progress:
        progress.empty()
    return tiles


def _tile(predictions: PredictionSet, position: int, row: pd.Series, picture: str) -> Tile:
    """One image; `row` is of its dataset's index after the decisions in force."""
    true, predicted = int(predictions.true[position]), int(predictions.predicted[position])
    probabilities = predictions.probabilities[position]
    true_title = formatting.class_title(predictions.classes[true]).lower()
    return Tile(
        str(predictions.ids[position]),
        picture,
        f"{formatting.class_title(predictions.classes[predicted])} {100 * probabilities[predicted]:.0f} %",
        "correct" if true == predicted else f"true: {true_title} ({100 * probabilities[true]:.0f} %)",
        formatting.shortened_start(str(predictions.ids[position]).rsplit("/", 1)[-1]),
        plots.class_colour(predictions.classes[predicted], predicted),
        note=image_view.decisions_note(row),
        excluded=bool(row["excluded"]),
    )


@st.dialog("X-ray", width="large", on_dismiss="rerun")  # the tile behind it shows what was decided meanwhile
def large_view(run: Run, predictions: PredictionSet, metadata: pd.DataFrame, position: int) -> None:
    """Show one image large, its heatmap, the probabilities, and the bar of decisions."""
    dataset = datasets.get(str(metadata["data"].iloc[position]))
    row = cached_data.row_of(dataset, int(metadata["row"].iloc[position]))
    true, predicted = (predictions.classes[int(codes[position])] for codes in (predictions.true, predictions.predicted))
    left, right = st.columns([3, 2])
    with left:
        view = st.segmented_control(
            "What to show", list(VIEWS), default="image", required=True, key="case-view", persist_state="session",
            format_func=VIEWS.__getitem__, label_visibility="collapsed",
        )  # fmt: skip
        _picture(run, dataset, row, predicted if view == "heatmap" else "")
    with right:
        st.markdown(
            f"Predicted: **{formatting.class_markdown(predicted).lower()}**. "
            f"True class: **{formatting.class_markdown(true).lower()}**."
        )
        probabilities = dict(zip(predictions.classes, predictions.probabilities[position].tolist(), strict=True))
        titles = {name: formatting.class_title(name) for name in probabilities}
        st.plotly_chart(
            plots.class_probabilities(probabilities, titles, dark=dark()),
            config=plots.config(f"probabilities-{row['id']}"),
            key="case-probabilities",
            alt=", ".join(f"{titles[name]} {formatting.percent(value)}" for name, value in probabilities.items()),
        )
        messages.synthetic_notice(dataset)
        if note := image_view.decisions_note(row):
            st.markdown(formatting.verbatim(note))
        st.caption(
            f"{formatting.verbatim(row['id'])} · patient {formatting.verbatim(row['patient'])} · "
            f"{row['width']:,} × {row['height']:,} pixels"
        )
        curation_bar.curation_bar(dataset, (row["id"],), key=f"case-{row['id']}", in_dialog=True)
        st.page_link(
            "pages/model/predict.py", label="Classify this X-ray", icon=":material/radiology:",
            query_params={"data": dataset.name, "image": row["id"], "run": run.id},
        )  # fmt: skip


def _picture(run: Run, dataset: Dataset, row: pd.Series, explained: str) -> None:
    """The image, with the heatmap for the class `explained` over it if one is named."""
    try:
        content = cached_data.original_jpeg(dataset.name, dataset.version, row["id"])
    except CxrError as error:
        st.error(formatting.verbatim(str(error)), icon=":material/broken_image:")
        return
    if explained:
        with st.spinner("Computing the heatmap …"):
            heatmap = heatmaps.heatmap_of(run, images.read(content), explained)
        if heatmap is not None:
            st.image(heatmap, width="stretch", alt=f"Heatmap for {formatting.class_title(explained).lower()}")
            st.caption(messages.HEATMAP_MEANING)
            return
        st.caption(":material/info: This run has no heatmaps.")
    st.image(content, width="stretch", alt=f"Chest X-ray {row['id']}")
