"""Predict: upload X-rays, or take one of a dataset, and see what a run says and how far to trust it."""

import random

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import images
from cxr_core.data import datasets
from cxr_core.errors import CxrError
from cxr_core.evaluation import figures
from cxr_core.runs import folder as runs
from cxr_core.runs.folder import Run
from pages.ui import choose, engine, loaders, notices, words
from pages.ui.theme import dark

TYPES = [suffix.removeprefix(".") for suffix in images.SUFFIXES]
MANY = 4  # more uploads than this are shown as a table first


def choose_run(usable: list[Run]) -> Run:
    run = choose.run("Answering run", usable, help="The trained network that answers. The newest is on top.")
    test = run.metrics.get("test")
    if test:
        found = ", ".join(
            f"{words.label(name).lower()} {words.percent(one['recall'])}"
            for name, one in test["per_class"].items()
            if one["recall"] is not None
        )
        st.markdown(
            f"**How good it is.** Of {test['n']:,} test images of '{run.config.data}' it gets "
            f"**{words.percent(test['accuracy'])}** right (95 % interval {words.interval(test['ci95']['accuracy'])}). "
            f"Found of each class: {found}."
        )
    notices.of_data(run.config.data)
    return run


def answer(run: Run, grey: np.ndarray) -> dict[str, float]:
    with st.spinner("Asking the network (the first time it has to be loaded) …"):
        return engine.predict(run.id, run.status.ended, grey)


def verdict(run: Run, title: str, grey: np.ndarray, found: dict[str, float], *, true: str = "") -> None:
    """The image beside its answer."""
    best = max(found, key=found.__getitem__)
    with st.container(border=True):
        left, right = st.columns([2, 3], gap="large")
        with left:
            st.image(loaders.jpeg(grey), width="stretch", alt=f"The image {title}")
            st.caption(f"{title} · {grey.shape[1]:,} × {grey.shape[0]:,} pixels")
        with right:
            st.markdown("The network's answer")
            st.header(words.label(best), anchor=False)
            st.markdown(f"with a probability of **{words.percent(found[best])}** by its own reckoning.")
            if true:
                right_ = true == best
                st.badge(
                    f"{'Right' if right_ else 'Wrong'}: the dataset says {words.label(true).lower()}",
                    icon=":material/check:" if right_ else ":material/close:",
                    color="green" if right_ else "red",
                )
            st.plotly_chart(
                figures.probabilities(found, {name: words.label(name) for name in found}, dark=dark()),
                config=figures.CONFIG,
                key=f"probabilities-{title}",
                alt=", ".join(f"{words.label(name)} {words.percent(value)}" for name, value in found.items()),
            )
            if min(grey.shape) < run.config.image_size:
                st.warning(
                    f"The image is smaller than the {run.config.image_size} × {run.config.image_size} pixels that the network "
                    "sees, so it was enlarged. The answer is less sure than it looks.",
                    icon=":material/photo_size_select_small:",
                )
            with st.expander("Exact figures"):
                st.dataframe(
                    pd.DataFrame({"class": list(found), "probability": [f"{value:.7f}" for value in found.values()]}),
                    hide_index=True,
                    alt="Probability of each class to seven places",
                )


def uploads(run: Run) -> None:
    files = st.file_uploader(
        "X-ray images", type=TYPES, accept_multiple_files=True, key="uploads", max_upload_size=50,
        help="One or many. They stay in memory: nothing that you upload is stored.",
    )  # fmt: skip
    if not files:
        return
    answers, progress = [], st.progress(0.0, text="Reading …") if len(files) > MANY else None
    for place, file in enumerate(files):
        try:
            grey = images.read(file.getvalue())
            answers.append((file.name, grey, answer(run, grey), ""))
        except CxrError as error:
            answers.append((file.name, None, {}, str(error)))
        if progress:
            progress.progress((place + 1) / len(files), text=f"{place + 1} of {len(files)}")
    if len(files) > MANY:
        table(run, answers)
    for place, (name, grey, found, problem) in enumerate(answers):
        if problem:
            st.error(f"**{name}**: {problem}", icon=":material/broken_image:")
        elif len(files) <= MANY:
            verdict(run, name if len(files) == 1 else f"{place + 1}. {name}", grey, found)


def table(run: Run, answers: list) -> None:
    """Many answers, as a table to sort and to take away."""
    rows = pd.DataFrame(
        [
            {"file": name, "answer": words.label(max(found, key=found.__getitem__)), **found}
            for name, _, found, problem in answers
            if not problem
        ]
    )
    share = st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent")
    st.dataframe(rows, hide_index=True, column_config=dict.fromkeys(run.config.classes, share), alt="Answers by file")
    st.download_button(
        "Download as CSV", rows.to_csv(index=False), "predictions.csv", "text/csv", icon=":material/download:"
    )


def examples(run: Run) -> None:
    names = datasets.names()
    if not names:
        st.caption("There is no dataset to take an image from.")
        return
    names.sort(key=lambda one: one != run.config.data)  # the run's own first
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = choose.addressed("Dataset", names, key="data", kind="dataset", width=260)
        dataset = datasets.get(name)
        wanted = st.pills("Class", dataset.classes, format_func=words.label, key="example_class")
        draw = st.button("Another image", icon=":material/casino:")
    table = loaders.index_of(dataset)
    pool = table[table["split"] == "test"]
    pool = pool[pool["class"] == wanted] if wanted else pool
    if pool.empty:
        st.caption("This set has no such test image.")
        return
    current = st.query_params.get("image", "")
    if draw or not (table["id"] == current).any() or (wanted and not (pool["id"] == current).any()):
        current = random.choice(pool["id"].tolist())
        st.query_params["image"] = current
    row = table[table["id"] == current].iloc[0]
    notices.synthetic(dataset)
    if row["split"] == "train" and name == run.config.data:
        st.caption(":material/info: The network has learned from this very image, so its answer proves nothing.")
    if name != run.config.data:
        st.caption(
            f":material/info: This network has learned from '{run.config.data}'. Images of another origin are strange to it: "
            "how good it is on them is not known."
        )
    grey = images.read(datasets.image_path(name, current))
    verdict(run, current, grey, answer(run, grey), true=str(row["class"]) if row["class"] in run.config.classes else "")


st.title("Predict", anchor=False)
notices.disclaimer()
usable = [run for run in runs.every() if run.usable]
if not usable:
    notices.empty(
        "No trained network yet",
        "Train one first. On the synthetic set that takes a few minutes.",
        page="pages/model/train.py",
        link="Train a network",
        icon=":material/model_training:",
    )
    st.stop()
run = choose_run(usable)
way = st.segmented_control(
    "Image", ["upload", "example"], default="example" if "image" in st.query_params else "upload", required=True, key="way",
    format_func={"upload": "Upload", "example": "Take one of a dataset"}.__getitem__, label_visibility="collapsed",
)  # fmt: skip
if way == "example":
    examples(run)
else:
    uploads(run)
