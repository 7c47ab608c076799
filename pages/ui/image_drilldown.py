"""The images behind a number: a gallery, worst first, with what the run said of each, and the decisions about them."""

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.data import datasets
from cxr_core.errors import CxrError
from cxr_core.evaluation import plots
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs.run_store import Run
from pages.ui import cached_data, curation_bar, heatmaps, messages, selectors
from pages.ui.gallery import Tile, gallery
from pages.ui.theme import dark

PER_PAGE = 24


def worst_first(answers: PredictionSet, inside: np.ndarray) -> np.ndarray:
    """Places of the images inside (a mask), the least probable truth first."""
    places = np.flatnonzero(inside)
    sure = answers.probabilities[places, answers.true[places]]
    found: np.ndarray = places[np.argsort(sure, kind="stable")]
    return found


def show(run: Run, answers: PredictionSet, about: pd.DataFrame | None, inside: np.ndarray, *, key: str) -> None:
    """The gallery of some images of a run.

    Args:
        about: `image_metadata.read` of the answers; None if the dataset is gone: then a table is shown.
        inside: (n,) bool, which images.
        key: of the gallery; another one for other images.
    """
    places = worst_first(answers, inside)
    if not len(places):
        st.caption("There is no such image.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        page = selectors.page(-(-len(places) // PER_PAGE), key=f"page-{key}")
        st.markdown(f"**{formatting.plural(len(places), 'image')}**, the least probable truth first", width="content")
        st.space("stretch")
        mapped = about is not None and st.toggle(
            "Heatmaps",
            key="mapped-cases",
            persist_state="session",
            help="Bright where the image counted most for the class that it was called.",
        )
        choosing = about is not None and curation_bar.choosing_switch("choosing-cases")
    shown = places[(page - 1) * PER_PAGE : page * PER_PAGE]
    if about is None:
        st.info(
            f"The dataset '{run.config.data}' is not here (any more), so only names are shown.", icon=":material/info:"
        )
        st.dataframe(answers.take(shown).table(), hide_index=True, alt="Images and probabilities")
        return
    bar = st.container()
    turn = st.session_state.get(f"turn-{key}", 0)
    start = st.session_state.get(f"preset-{key}", ()) if choosing else ()
    known = {str(name): datasets.get(str(name)) for name in about["data"].iloc[shown].unique()}
    indices = {name: cached_data.index_of(dataset) for name, dataset in known.items()}
    tiles = []
    waiting = st.progress(0.0, "Asking the network where it looked …") if mapped else None
    for done, place in enumerate(shown):
        name, row = str(about["data"].iloc[place]), int(about["row"].iloc[place])
        called = answers.classes[int(answers.predicted[place])]
        if waiting:
            waiting.progress(done / len(shown), "Asking the network where it looked …")
        small = heatmaps.thumbnail(run, known[name], row, called) if mapped else cached_data.thumbnail(known[name], row)
        tiles.append(_tile(answers, place, indices[name].loc[row], small))
    if waiting:
        waiting.empty()
    picked = gallery(tiles, key=f"{key}-{page}-{choosing}-{turn}", choosing=choosing, chosen=start)
    if picked.opened is not None:
        (place,) = np.flatnonzero(answers.ids == picked.opened)
        large_view(run, answers, about, int(place))
    if choosing:
        with bar:
            curation_bar.curation_bar(datasets.get(run.config.data), tuple(one for one in picked.chosen), key=key)
            curation_bar.record_link(datasets.get(run.config.data))


def _tile(answers: PredictionSet, place: int, row: pd.Series, picture: str) -> Tile:
    """One image; `row` is of its dataset's index after the decisions in force."""
    true, called = int(answers.true[place]), int(answers.predicted[place])
    given = answers.probabilities[place]
    said = f"{formatting.class_title(answers.classes[called])} {given[called]:.0%}"
    truth = (
        "right" if true == called else f"is {formatting.class_title(answers.classes[true]).lower()} ({given[true]:.0%})"
    )
    return Tile(
        str(answers.ids[place]),
        picture,
        said,
        truth,
        formatting.shortened_start(str(answers.ids[place]).rsplit("/", 1)[-1]),
        plots.class_colour(answers.classes[called], called),
        note=_note(row),
        excluded=bool(row["excluded"]),
    )


def _note(row: pd.Series) -> str:
    said = ["Excluded since"] if row["excluded"] else []
    said += [f"Relabelled as {formatting.class_title(row['class']).lower()}"] if row["relabelled"] else []
    return " · ".join([*said, *(f"#{tag}" for tag in row["tags"].split(", ") if tag)])


@st.dialog("X-ray", width="large", on_dismiss="rerun")  # the tile behind it says what was decided meanwhile
def large_view(run: Run, answers: PredictionSet, about: pd.DataFrame, place: int) -> None:
    """One image large, its heatmap, the probabilities, and the way to a decision."""
    dataset = datasets.get(str(about["data"].iloc[place]))
    row = cached_data.index_of(dataset).loc[int(about["row"].iloc[place])]
    true, called = (answers.classes[int(codes[place])] for codes in (answers.true, answers.predicted))
    left, right = st.columns([3, 2])
    with left:
        way = st.segmented_control(
            "What to show", ["image", "heatmap"], default="image", required=True, key="case-way", persist_state="session",
            format_func={"image": "Image", "heatmap": "Heatmap"}.__getitem__, label_visibility="collapsed",
        )  # fmt: skip
        _picture(run, dataset, row, called if way == "heatmap" else "")
    with right:
        st.markdown(
            f"Called **{formatting.class_title(called).lower()}**, is **{formatting.class_title(true).lower()}**."
        )
        found = dict(zip(answers.classes, answers.probabilities[place].tolist(), strict=True))
        st.plotly_chart(
            plots.class_probabilities(found, {name: formatting.class_title(name) for name in found}, dark=dark()),
            config=plots.config(f"probabilities-{row['id']}"),
            key="case-probabilities",
            alt=", ".join(
                f"{formatting.class_title(name)} {formatting.percent(value)}" for name, value in found.items()
            ),
        )
        messages.synthetic_notice(dataset)
        if note := _note(row):
            st.markdown(note)
        st.caption(
            f"{formatting.verbatim(row['id'])} · patient {formatting.verbatim(row['patient'])} · {row['width']:,} × {row['height']:,} pixels"
        )
        curation_bar.curation_bar(dataset, (row["id"],), key="case", in_dialog=True)
        st.page_link(
            "pages/model/predict.py",
            label="Ask a model about it",
            icon=":material/radiology:",
            query_params={"data": dataset.name, "image": row["id"], "run": run.id},
        )


def _picture(run: Run, dataset: datasets.Dataset, row: pd.Series, label: str) -> None:
    try:
        content = cached_data.original_jpeg(dataset.name, dataset.version, row["id"])
    except CxrError as error:
        st.error(str(error), icon=":material/broken_image:")
        return
    if label:
        from cxr_core import images

        with st.spinner("Asking the network where it looked …"):
            laid = heatmaps.heatmap_of(run, images.read(content), label)
        if laid is not None:
            st.image(laid, width="stretch", alt=f"Where the network looked for {formatting.class_title(label).lower()}")
            st.caption(
                "Bright: this part counted most for the answer. It shows what a network used, not where illness is."
            )
            return
        st.caption(":material/info: This run cannot say where it looked.")
    st.image(content, width="stretch", alt=f"Chest X-ray {row['id']}")
