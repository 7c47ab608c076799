"""Predict: classify uploaded X-rays or examples from a dataset, with heatmaps and the confidence of each prediction."""

import random

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.data import datasets
from cxr_core.errors import CxrError
from cxr_core.evaluation import confusion, intervals, rule_store
from cxr_core.images import DecodedImage
from cxr_core.inference import predict, uploads
from cxr_core.inference.predict import InputFile, LoadedModel, Prediction
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from pages.ui import (
    batch_predictions,
    cached_data,
    cached_metrics,
    clipboard,
    heatmaps,
    messages,
    prediction_card,
    run_card,
    selectors,
    url_state,
)

MANY = 4  # more images than this are shown as a table
UPLOAD, FOLDER, EXAMPLE = "upload", "folder", "example"
WAYS = {UPLOAD: "Upload", FOLDER: "Upload a folder", EXAMPLE: "Example from a dataset"}


def choose_run(usable: list[Run]) -> tuple[Run, list[Run]]:
    """The chosen model, and the others chosen for a second opinion."""
    run = selectors.run(
        "Model", usable,
        help="A trained model or an ensemble. The newest are on top, above them the most accurate of those that were validated "
        "on the same images as the newest.",
    )  # fmt: skip
    if "test" in run.metrics:
        try:
            _performance(run)
        except CxrError as error:
            st.warning(formatting.verbatim(str(error)), icon=":material/error:")
    messages.synthetic_mark(run.config.data)
    others = {other.id: other for other in usable if other.id != run.id and other.config.classes == run.config.classes}
    if not others:
        return run, []
    titles = run_card.titles(usable)
    chosen = st.multiselect(
        "Second opinions", list(others), key=f"opinions-{run.id}", persist_state="session", max_selections=5,
        format_func=titles.__getitem__, placeholder="Other models for the same image",
    )  # fmt: skip
    return run, [others[run_id] for run_id in others if run_id in chosen]


def _performance(run: Run) -> None:
    """Show the metrics of a run on its test images, by the rule that classifies uploads."""
    rule = rule_store.of_run(run.id)
    test, counts = cached_metrics.decided_set_of(run, "test", rule), cached_metrics.counts_of(run, "test", rule)
    recalls = ", ".join(
        f"{formatting.class_markdown(name).lower()} {formatting.percent(recall)}"
        for name, recall, n in zip(test.classes, confusion.recall(test.confusion), test.support, strict=True)
        if n
    )
    shares = {name: formatting.percent(share.value) for name, share in counts.items()}
    (confident, n), (correct, _) = counts["coverage"], counts["accuracy_all"]
    sentences = [
        f"**Test performance.** Accuracy **{shares['accuracy_all']}** (95 % interval "
        f"{formatting.interval(intervals.wilson(correct, n))}) on {n:,} test images of "
        f"'{formatting.verbatim(run.config.data)}'; decision rule: "
        f"{formatting.verbatim(formatting.decision_rule(rule))}. Recall by class: {recalls}."
    ]
    if rule.reject_threshold:
        sentences.append(f"Confident in {confident:,} of them, {shares['accuracy_answered']} of these correct.")
        if counts["sensitivity"].of:
            sentences.append(
                f"Sensitivity {shares['sensitivity']} ({shares['sensitivity_confident']} confidently), specificity "
                f"{shares['specificity']} ({shares['specificity_confident']} confidently)."
            )
    st.markdown(" ".join(sentences))


def load_or_stop(run: Run) -> LoadedModel:
    """Load the networks of a run, and export them if they never were."""
    with st.spinner("Loading the model (longer the first time) …"):
        return predict.load(run.id)


def load_others(others: list[Run]) -> list[LoadedModel]:
    """Load the runs that can predict on this machine, and show why for any that cannot."""
    loaded = []
    for run in others:
        try:
            loaded.append(load_or_stop(run))
        except CxrError as error:
            name = formatting.verbatim(run_card.titles(others)[run.id])
            st.warning(f"No second opinion by {name}: {formatting.verbatim(str(error))}", icon=":material/error:")
    return loaded


def single_image(
    model: LoadedModel, others: list[LoadedModel], item: InputFile, *, title: str = "", true: str = ""
) -> None:
    """Show one image with its prediction, or the sentence that says why there is none."""
    title = title or item.name
    try:
        image = _decoded(item, title, [model, *others])
    except CxrError as error:
        messages.unreadable(item.name, str(error))
        return

    def prediction(network: LoadedModel) -> Prediction:
        return network.predict(network.prepare([image]))[0]

    opinions = [(other, prediction(other)) for other in others]
    prediction_card.show(model, title, image, prediction(model), others=opinions, true=true)


def _decoded(item: InputFile, title: str, models: list[LoadedModel]) -> DecodedImage:
    """The decoded image; of a DICOM file with several frames the chosen one."""
    key = f"frame-{title}"
    frame = int(st.session_state.get(key, (item.frame or 0) + 1)) - 1
    with st.spinner("Reading the image …"):  # behind those of others, if there are many
        image = predict.decode(item, models, frame=frame, longest=heatmaps.WIDEST)
    if image.frames > 1:
        label = f"Image of {formatting.verbatim(title)} (1 to {image.frames})"
        st.number_input(label, 1, image.frames, frame + 1, key=key, width=260)
    return image


def upload_panel(model: LoadedModel, others: list[LoadedModel], *, whole_folder: bool) -> None:
    files = st.file_uploader(
        "A folder of X-ray images" if whole_folder else "X-ray images, or a zip of them",
        accept_multiple_files="directory" if whole_folder else True, key=f"uploads-{whole_folder}", max_upload_size=200,
        help="PNG, JPEG, BMP, TIFF, WebP or DICOM, one or many; or paste an image (Ctrl+V). They stay in memory: nothing that you "
        "upload is stored.",
    )  # fmt: skip
    if not whole_folder:
        clipboard.to_uploader()
    if not files:
        return
    items, problems = uploads.input_files([(file.name, file.getvalue()) for file in files])
    if len(items) + len(problems) <= MANY:
        for name, problem in problems:
            messages.unreadable(name, problem)
        for number, item in enumerate(items, start=1):
            title = item.name if len(items) == 1 else f"{item.name} ({number} of {len(items)})"
            single_image(model, others, item, title=title)
        return
    key = (model.run.id, *(other.run.id for other in others), *(file.file_id for file in files))
    chosen = batch_predictions.show(model, others, items, problems, key=key)
    if chosen is not None:
        single_image(model, others, items[chosen], title=f"{items[chosen].name} ({chosen + 1} of {len(items)})")


def example_panel(model: LoadedModel, others: list[LoadedModel]) -> None:
    names, config = datasets.list_names(), model.run.config
    if not names:
        st.caption("There is no dataset to take an image from.")
        return
    names.sort(key=lambda name: name != config.data)  # the run's own first
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = url_state.choice("Dataset", names, key="example-data", address="data", width=260)
        dataset = datasets.get(name)
        wanted = st.pills(
            "Class",
            dataset.classes,
            format_func=formatting.class_markdown,
            key="example_class",
            persist_state="session",
        )
        draw = st.button("Another image", icon=":material/casino:")
    table = cached_data.index_of(dataset)
    pool = table[table["split"] == "test"]
    pool = pool[pool["class"] == wanted] if wanted else pool
    if pool.empty:
        st.caption("This set has no such test image.")
        return
    current = st.query_params.get("image", "")
    if draw or not (table["id"] == current).any() or (wanted and not (pool["id"] == current).any()):
        current = random.choice(pool["id"].tolist())
        st.query_params["image"] = current
    row: pd.Series = table[table["id"] == current].iloc[0]
    messages.synthetic_notice(dataset)
    if row["split"] == "train" and name == config.data:
        st.caption(":material/info: The model was trained on this very image, so its prediction proves nothing.")
    if name != config.data:
        st.caption(
            f":material/info: This model was trained on '{formatting.verbatim(config.data)}'. How good it is on images of "
            "another origin is not known."
        )
    true = str(row["class"]) if row["class"] in config.classes else ""
    single_image(model, others, InputFile(current, datasets.image_path(name, current)), true=true)


st.title("Predict", anchor=False)
messages.disclaimer()
usable = [run for run in runs.list_runs() if run.has_predictions]
if not usable:
    messages.no_model("No trained model yet", "Train one first. On the synthetic set that takes a few minutes.")
    st.stop()
run, more = choose_run(usable)
way = st.segmented_control(
    "Image", list(WAYS), default=EXAMPLE if "image" in st.query_params else UPLOAD, required=True, key="way",
    format_func=WAYS.__getitem__, label_visibility="collapsed",
)  # fmt: skip
model = load_or_stop(run)
if model.notice:
    st.caption(f":material/info: {formatting.verbatim(model.notice)}")
others = load_others(more)
if way == EXAMPLE:
    example_panel(model, others)
else:
    upload_panel(model, others, whole_folder=way == FOLDER)
