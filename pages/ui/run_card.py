"""One run as a card: state, progress, learning curves, actions."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from cxr_core import formatting, workspace
from cxr_core.data import manifest
from cxr_core.errors import CxrError
from cxr_core.evaluation import plots
from cxr_core.jobs import queue
from cxr_core.models import catalogue
from cxr_core.runs import run_store as runs
from cxr_core.runs import trash
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run
from cxr_core.runs.status import Status
from cxr_core.workspace import Fingerprint
from pages.ui import messages, visitor
from pages.ui.settings_form import settings_form
from pages.ui.theme import dark


def title(run: Run) -> str:
    """The name of a run, else its architecture, dataset, part of its group and time."""
    created = time.localtime(run.status.created)
    year = "" if created.tm_year == time.localtime().tm_year else " %Y"
    if run.name:
        return run.name
    part = f", {_part(run.config.data, run.config.manifest) or f'seed {run.config.seed}'}" if run.config.group else ""
    when = time.strftime(f"%d %b{year} %H:%M:%S", created)
    return f"{catalogue.title(run.config.model)} on {run.config.data}{part}, {when}"


@st.cache_data(max_entries=1000, show_spinner=False)
def _part(data: str, manifest_id: str) -> str:
    """'fold 2 of 5', if that is what the manifest is."""
    try:
        fold, folds = (built := manifest.get(data, manifest_id)).fold, built.folds
    except CxrError:
        return ""
    return f"fold {fold} of {folds}" if folds else ""


def titles(runs_: Sequence[Run]) -> dict[str, str]:
    """Titles by id, no two alike: where two would be, the end of the id tells them apart."""
    plain = {run.id: title(run) for run in runs_}
    often = Counter(plain.values())
    return {name: f"{text} ({name[-3:]})" if often[text] > 1 else text for name, text in plain.items()}


def badge(status: Status) -> None:
    text, icon, shade = formatting.RUN_STATES[status.state]
    st.badge(text, icon=icon, color=shade)


def card(run: Run, *, position: int = 0, waiting: int = 0) -> None:
    """Show the card of a run that is queued (as number `position` of `waiting`), running, or has ended."""
    with st.container(border=True, key=f"card-{run.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{formatting.verbatim(title(run))}**", width="content")
            badge(run.status)
            st.space("stretch")
            _actions(run, position, waiting)
        if run.note:
            st.caption(formatting.verbatim(run.note))
        if run.status.reason:
            st.markdown(formatting.verbatim(run.status.reason))
        if position:
            st.caption(
                f"Number {position} of {waiting} in the queue."
                + (f" {formatting.verbatim(run.status.stage.capitalize())}." if run.status.job else "")
            )
            if reason := queue.obstacle(run) if position == 1 else run.status.waits_for:
                st.warning(formatting.verbatim(reason), icon=":material/hourglass_disabled:")
            return
        if run.status.state == "running" or run.status.at_work:
            _progress(run.status)
        try:
            curves(run)
        except CxrError as error:
            st.warning(formatting.verbatim(str(error)), icon=":material/error:")
        with st.expander("Log and settings", icon=":material/notes:"):
            st.code(runs.log(run.id) or "No output yet.", language=None, height=220)
            st.json({**run.config.__dict__, "run": run.id}, expanded=False)


@st.cache_resource(max_entries=100, show_spinner=False)
def _figure(run_id: str, history_state: Fingerprint, keep: str, dark_: bool) -> tuple[go.Figure | None, int]:  # noqa: ARG001 - part of the key
    """The learning curves and their number of epochs, one figure for all sessions."""
    history = runs.history(run_id)
    if history.empty:
        return None, 0
    return plots.learning_curves(history, best_epoch=runs.best_epoch(history, keep), dark=dark_), len(history)


def curves(run: Run) -> None:
    """Show the learning curves of a run."""
    history_state = workspace.fingerprint(run.folder / "history.csv")
    figure, epochs = _figure(run.id, history_state, run.config.keep, dark())
    if epochs:
        st.plotly_chart(
            figure,
            config=plots.config(f"learning-{run.id}"),
            key=f"curves-{run.id}",
            alt=f"Accuracy and loss over {epochs} epochs",
        )
    elif run.status.state == "running":
        st.caption("The curves appear after the first epoch.")


def _actions(run: Run, position: int, waiting: int) -> None:
    if position:
        for to, icon, help_, useless in (
            ("first", ":material/vertical_align_top:", "Next to start", position == 1),
            ("earlier", ":material/arrow_upward:", "Earlier", position == 1),
            ("later", ":material/arrow_downward:", "Later", position == waiting),
        ):
            st.button(
                "", key=f"{to}-{run.id}", icon=icon, type="tertiary", help=help_, disabled=useless,
                on_click=messages.attempt, args=(queue.move, run.id, to),
            )  # fmt: skip
    if run.status.state in ("queued", "running"):
        stopping = (run.folder / "stop").exists()
        late = run.status.stage in ("predicting", "exporting")  # nothing is left to stop
        st.button(
            "Finishing …" if late else "Stopping …" if stopping else "Stop",
            key=f"stop-{run.id}",
            icon=":material/stop:",
            disabled=stopping or late,
            on_click=stop,
            args=(run.id,),
            help="Stops after the current batch. The best epoch so far is saved, and the run can be resumed.",
        )
        return
    if run.has_predictions:
        st.page_link(
            "pages/model/results.py", label="Results", icon=":material/query_stats:", query_params={"run": run.id}
        )
    if run.folder.parent != workspace.runs():
        return
    if run.status.state != "finished":
        st.button(
            "Resume",
            key=f"resume-{run.id}",
            icon=":material/play_arrow:",
            on_click=messages.attempt,
            args=(queue.resume, run.id),
            help="Continues after the last complete epoch, with the result of an uninterrupted run.",
        )
    for label, icon, dialog in (
        ("Name and note …", ":material/edit:", _describe),
        ("Train again with changes …", ":material/content_copy:", _duplicate),
        ("Delete …", ":material/delete:", _delete),
    ):
        if st.button("", key=f"{icon}-{run.id}", icon=icon, type="tertiary", help=label):
            dialog(run)


def stop(run_id: str) -> None:
    messages.attempt(_stop, run_id)


def _stop(run_id: str) -> None:
    if runs.get(run_id).status.state in ("queued", "running"):  # it may have ended while the button was on screen
        queue.stop(run_id)


@st.dialog("Name and note")
def _describe(run: Run) -> None:
    name = st.text_input("Name", run.name, placeholder=title(run), max_chars=80)
    note = st.text_area("Note", run.note)
    if st.button("Save", type="primary", icon=":material/check:"):
        messages.attempt(lambda: runs.describe(run.id, name=name, note=note))
        st.rerun()


@st.dialog("Train again with changes", width="large")
def _duplicate(run: Run) -> None:
    st.caption(f"The settings of {formatting.verbatim(title(run))}, on the same images and splits. Change any of them.")
    hidden = () if visitor.may_type_paths() else ("weights",)
    chosen = settings_form(run.config.__dict__, key=f"again-{run.id}", leave_out=hidden)
    if st.button("Start training", type="primary", icon=":material/play_arrow:"):
        try:
            queue.duplicate(run.id, _checked(chosen, run.config))
        except CxrError as error:
            st.error(formatting.verbatim(str(error)), icon=":material/error:")
            return
        st.rerun()


def _checked(chosen: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """The chosen settings, with the path of another weights file as this visitor may open it.

    Raises:
        BadInput: they may not.
    """
    weights = chosen.get("weights", config.weights)
    if weights == config.weights or weights in catalogue.WEIGHTS:
        return chosen
    return {**chosen, "weights": visitor.checked_path(weights)}


@st.dialog("Delete this run?")
def _delete(run: Run) -> None:
    st.markdown(
        f"This deletes **{formatting.verbatim(title(run))}** with its model, predictions and log. For "
        f"{trash.RETENTION_DAYS} days it can be restored at the bottom of this page."
    )
    if st.button("Delete", type="primary", icon=":material/delete:"):
        messages.attempt(trash.delete, run.id)
        st.session_state["deleted-run"] = run.id
        st.rerun()


def _progress(status: Status) -> None:
    if status.stage == "training":
        share = (status.epoch + status.batch / max(status.batches, 1)) / max(status.epochs, 1)
        text = f"Epoch {min(status.epoch + 1, status.epochs)} of {status.epochs}"
        if status.batches:
            text += f", batch {status.batch} of {status.batches}"
        if status.rate:
            text += f" · {status.rate:,.0f} images/s · about {formatting.duration(status.seconds_left)} left"
    else:
        share = status.batch / status.batches if status.batches else 0.0
        text = {
            "starting": "Starting TensorFlow",
            "preparing": "Preparing the images",
            "downloading": "Downloading the starting weights (MB)",
            "features": "Computing the features of the frozen layers (once)",
            "predicting": "Predicting every split with the best epoch",
            "exporting": "Exporting the model",
        }.get(status.stage, formatting.verbatim(status.stage))
        if status.batches:
            text += f", {status.batch:,} of {status.batches:,}"
    where = f" · {formatting.verbatim(status.device)}" + (
        f", {status.memory_gb:.1f} GB of memory" if status.memory_gb else ""
    )
    st.progress(min(max(share, 0.0), 1.0), text=text + (where if status.device else ""))
