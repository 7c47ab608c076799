"""Home: datasets, the best run, next steps."""

from contextlib import suppress
from pathlib import Path

import streamlit as st

from cxr_core import formatting, trash
from cxr_core.data import allowed_paths, datasets
from cxr_core.data.datasets import Dataset
from cxr_core.errors import BadInput, CxrError, UnknownName, WorkFailed
from cxr_core.evaluation import plots
from cxr_core.jobs import background_jobs
from cxr_core.runs import run_store as runs
from pages.ui import cached_metrics, messages, visitor
from pages.ui.theme import dark


def heading(usable: list[Dataset], trained: list[runs.Run]) -> None:
    st.title("Chest X-ray workbench", anchor=False)
    st.markdown(
        "Curate a set of chest X-rays, train networks to tell **normal**, **viral** and **bacterial** pneumonia apart, "
        "measure how good they are, and classify an X-ray with them."
    )
    synthetic = {dataset.name for dataset in usable if dataset.synthetic}
    best = max(
        (run for run in trained if "test" in run.metrics),
        key=lambda run: (run.config.data not in synthetic, run.validation_accuracy),  # real X-rays first
        default=None,
    )
    with st.container(horizontal=True):
        messages.metric("Images", f"{sum(dataset.images for dataset in usable):,}", width=165)
        messages.metric("Datasets", str(len(usable)), width=165)
        messages.metric("Trained models", str(len(trained)), width=165)
        if best is not None:
            accuracy, n, rule = cached_metrics.headline_of(best, "test")
            mark = " (synthetic)" if best.config.data in synthetic else ""
            messages.metric(
                f"Best test accuracy, on {formatting.verbatim(best.config.data)}{mark}",
                formatting.percent(accuracy.value),
                interval=f"95 % interval {formatting.interval(accuracy.interval)}",
                width=330,
                about=f"Run {formatting.verbatim(best.id)}, the best of all by validation accuracy, on {n:,} test images of "
                f"'{formatting.verbatim(best.config.data)}', none of which it was trained on. Decision rule: "
                f"{formatting.verbatim(formatting.decision_rule(rule))}.",
            )
    if best is not None and rule.notice:
        st.warning(formatting.verbatim(rule.notice), icon=":material/error:")


def next_steps(usable: list[Dataset], trained: list[runs.Run]) -> None:
    st.subheader("What to do next", anchor=False)
    steps = [
        ("Look at the images", "Filter by split and class, open any one.", "data/browse", bool(usable)),
        ("Audit and curate", "Find errors, exclude them, balance the classes.", "data/audit", bool(usable)),
        ("Train a model", "Choose an architecture and follow its training.", "model/train", bool(usable)),
        ("Read the results", "Confusion matrix, calibration, report.", "model/results", True),
        ("Classify an X-ray", "Upload an image or take an example from a dataset.", "model/predict", bool(trained)),
    ]
    for column, (title, text, page, ready) in zip(st.columns(len(steps)), steps, strict=True):
        with column, st.container(border=True, height="stretch"):
            st.markdown(f"**{title}**  \n{text}")
            link = page.split("/")[1].capitalize()
            st.page_link(f"pages/{page}.py", label=link, icon=":material/arrow_forward:", disabled=not ready)


@st.dialog("Remove this dataset?")
def confirm_remove(name: str) -> None:
    trained_on_it = sum(run.config.data == name for run in runs.list_runs())
    st.markdown(
        f"This removes **{formatting.verbatim(name)}** with its manifests and the images copied into this workspace. For "
        f"{trash.RETENTION_DAYS} days it can be restored ({formatting.verbatim(f'data restore {name}')}). A folder that "
        "it refers to stays as it is, and so does the record of its decisions (in datasets/.removed)."
        + (
            f" {formatting.plural(trained_on_it, 'run')} trained on it stay, with their results."
            if trained_on_it
            else ""
        )
    )
    if st.button("Remove", type="primary", icon=":material/delete:"):
        with suppress(UnknownName):  # another browser was a moment faster
            try:
                datasets.remove(name)
            except WorkFailed as error:
                st.error(formatting.verbatim(str(error)), icon=":material/error:")
                return
        st.rerun()


def dataset_card(dataset: Dataset) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{formatting.verbatim(dataset.name)}**", width="content")
            messages.synthetic_notice(dataset)
            st.space("stretch")
            if st.button("", key=f"remove-{dataset.name}", icon=":material/delete:", type="tertiary", help="Remove …"):
                confirm_remove(dataset.name)
        st.caption(
            f"{formatting.plural(dataset.images, 'image')} of {formatting.plural(dataset.patients, 'patient')}. "
            f"From: {formatting.verbatim(dataset.origin)}."
            + (f" {formatting.verbatim(dataset.citation)}" if dataset.citation else "")
        )
        if dataset.advice:
            st.caption(f":material/info: {dataset.advice}")
        st.plotly_chart(
            plots.class_counts(
                dataset.counts,
                {name: formatting.class_title(name) for name in dataset.classes},
                split_titles=formatting.SPLITS,
                dark=dark(),
            ),
            config=plots.CONFIG,
            key=f"counts-{dataset.name}",
            alt=f"Images per class and split of {dataset.name}: {dataset.counts}",
        )
        if dataset.skipped:
            with st.expander(f"{formatting.plural(len(dataset.skipped), 'file')} skipped", icon=":material/warning:"):
                st.dataframe(list(dataset.skipped), hide_index=True)


def show_additions() -> None:
    """Redraw every second while something is being added, and the whole page when a job has ended."""
    jobs = [job for job in background_jobs.list_jobs() if job.kind == "add"]
    for job in jobs:
        messages.background_job(job)
    adding = {job.name for job in jobs if job.running}
    if adding != st.session_state.get("adding", set()):
        st.session_state["adding"] = adding
        st.rerun()


def add_panel() -> None:
    st.subheader("Add a dataset", anchor=False)
    ways = {
        "Kaggle": _kaggle_tab,
        **({"Folder or zip on this machine": _path_tab} if visitor.may_type_paths() else {}),
        "Upload a zip": _upload_tab,
        "Synthetic": _synthetic_tab,
    }
    for tab, show in zip(st.tabs(list(ways)), ways.values(), strict=True):
        with tab:
            show()
    if problem := st.session_state.pop("add-problem", ""):
        st.error(formatting.verbatim(problem), icon=":material/error:")


def _kaggle_tab() -> None:
    st.markdown(
        "5,856 chest X-rays of children: normal, viral and bacterial pneumonia (Kermany, Zhang, Goldbaum 2018, CC BY 4.0), "
        "1.2 GB. Needs internet access, no account."
    )
    st.button("Download from Kaggle", icon=":material/download:", type="primary", on_click=_start, args=("kaggle", ""))


def _path_tab() -> None:
    with st.form("by-path", border=False):
        path = st.text_input(
            "Path",
            placeholder="/data/chest_xray.zip",
            help="A folder with train, val and test, or with a folder for each class; a zip of either; or the folder of NIH "
            f"ChestX-ray14.{_below_roots()}",
        )
        name = st.text_input("Name", placeholder="kermany", help="Name in this workspace; by default that of the file.")
        with st.expander("NIH ChestX-ray14", icon=":material/table:"):
            labels = st.text_input(
                "Table of findings",
                placeholder="/data/Data_Entry_2017_v2020.csv",
                help=f"Not needed if it is in the folder itself.{_below_roots()}",
            )
            findings = st.text_input(
                "Class = findings",
                placeholder="pneumonia=Pneumonia; effusion=Effusion",
                help="Which findings form which class. By default No Finding is normal, any other abnormal.",
            )
        if st.form_submit_button("Add", icon=":material/add:"):
            _start_path(path.strip() or "(nothing)", name.strip(), labels.strip(), findings)


def _upload_tab() -> None:
    file = st.file_uploader("A zip with a folder for each class, up to 400 MB", type="zip", max_upload_size=400)
    if file and st.button("Add the upload", icon=":material/add:"):
        _start_upload(file.name, file.getvalue())


def _synthetic_tab() -> None:
    st.markdown(
        "Phantoms generated by this software, to try everything without real data. They say nothing about medicine."
    )
    count = st.slider("Images", 60, 3000, datasets.SYNTHETIC_IMAGES, step=60)
    if st.button("Generate", icon=":material/draw:"):
        _start("synthetic", f"synthetic-{count}", "--images", str(count), rerun=True)


def _start(source: str, name: str, *options: str, rerun: bool = False) -> None:
    try:
        background_jobs.add(source, name, options=options)
    except CxrError as error:
        st.session_state["add-problem"] = str(error)
    if rerun:
        st.rerun()


def _start_path(path: str, name: str, labels: str, findings: str) -> None:
    """Add what lies at a typed path, if this visitor may open it, with the typed table and findings."""
    try:
        path = visitor.checked_path(path)
        options = ["--labels", visitor.checked_path(labels)] if labels else []
    except BadInput as error:
        st.session_state["add-problem"] = str(error)
        st.rerun()
    for finding in filter(None, (part.strip() for part in findings.split(";"))):
        options += ["--finding", finding]
    _start(path, name, *options, rerun=True)


def _below_roots() -> str:
    """The folders that paths may lie below, as a sentence; "" where any will do."""
    roots = allowed_paths.roots()
    return f" Below: {formatting.verbatim(', '.join(map(str, roots)))}." if roots else ""


def _start_upload(file: str, content: bytes) -> None:
    try:
        background_jobs.add_upload(content, datasets.default_name(Path(file).name))
    except CxrError as error:
        st.session_state["add-problem"] = str(error)
    st.rerun()


usable = datasets.list_datasets()
trained = [run for run in runs.list_runs() if run.has_predictions]
heading(usable, trained)
busy = any(job.running and job.kind == "add" for job in background_jobs.list_jobs())
st.fragment(show_additions, run_every=1.0 if busy else None)()
if not usable and busy:
    st.info(
        "**First start.** A small synthetic dataset is being generated, so that there is something to see. It takes a few "
        "seconds.",
        icon=":material/draw:",
    )
for name, why in datasets.list_damaged().items():
    with st.container(border=True):
        st.error(formatting.verbatim(why), icon=":material/broken_image:")
        if st.button("Remove …", key=f"remove-{name}", icon=":material/delete:"):
            confirm_remove(name)
next_steps(usable, trained)
if usable:
    st.subheader("Datasets", anchor=False)
    for first, column in enumerate(st.columns(2)):
        with column:
            for dataset in usable[first::2]:
                dataset_card(dataset)
add_panel()
