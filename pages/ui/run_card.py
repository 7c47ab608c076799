"""One run as a card: its state, how far it is, its curves, and what can be done with it."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from cxr_core.errors import WorkFailed
from cxr_core.evaluation import figures
from cxr_core.jobs import queue
from cxr_core.models import catalogue
from cxr_core.runs import folder as runs
from cxr_core.runs.folder import Run
from cxr_core.runs.status import Status
from pages.ui import words
from pages.ui.theme import dark


def title(run: Run) -> str:
    """What a person calls a run: network, data, when it was made."""
    made = time.localtime(run.status.created)
    year = "" if made.tm_year == time.localtime().tm_year else " %Y"
    return f"{catalogue.title(run.config.model)} on {run.config.data}, {time.strftime(f'%d %b{year} %H:%M:%S', made)}"


def titles(runs_: Sequence[Run]) -> dict[str, str]:
    """Titles by id, no two alike: where two would be, the end of the id tells them apart."""
    plain = {run.id: title(run) for run in runs_}
    often = Counter(plain.values())
    return {name: f"{text} ({name[-3:]})" if often[text] > 1 else text for name, text in plain.items()}


def badge(status: Status) -> None:
    text, icon, shade = words.STATES[status.state]
    st.badge(text, icon=icon, color=shade)


def card(run: Run, *, delete: Callable[[str], None] | None = None) -> None:
    """The card of a run that is queued, running, or has ended; `delete` asks before it deletes."""
    with st.container(border=True, key=f"card-{run.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{title(run)}**", width="content")
            badge(run.status)
            st.space("stretch")
            _actions(run)
            if delete and st.button(
                "", key=f"delete-{run.id}", icon=":material/delete:", type="tertiary", help="Delete this run …"
            ):
                delete(run.id)
        if run.status.reason:
            st.markdown(run.status.reason)
        if run.status.state == "running":
            _progress(run.status)
        try:
            _curves(run, runs.history(run.id))
        except WorkFailed as error:
            st.warning(str(error), icon=":material/error:")
        with st.expander("Log and settings", icon=":material/notes:"):
            st.code(runs.log(run.id) or "Nothing has been printed yet.", language=None, height=220)
            st.json({**run.config.__dict__, "run": run.id}, expanded=False)


def _curves(run: Run, history: pd.DataFrame) -> None:
    if len(history):
        st.plotly_chart(
            figures.learning_curves(history, best_epoch=runs.best_epoch(history, run.config.keep), dark=dark()),
            config=figures.CONFIG,
            key=f"curves-{run.id}",
            alt=f"Accuracy and loss over {len(history)} epochs",
        )
    elif run.status.state == "running":
        st.caption("The curves begin when the first epoch is done.")


def _actions(run: Run) -> None:
    if run.status.state in ("queued", "running"):
        asked = (run.folder / "stop").exists()
        st.button(
            "Stopping …" if asked else "Stop",
            key=f"stop-{run.id}",
            icon=":material/stop:",
            disabled=asked,
            on_click=_stop,
            args=(run.id,),
            help="Ends after the batch under way; the best model so far is kept.",
        )
    elif run.usable:
        st.page_link(
            "pages/model/results.py", label="Results", icon=":material/query_stats:", query_params={"run": run.id}
        )


def _stop(run_id: str) -> None:
    if runs.get(run_id).status.state in ("queued", "running"):  # it may have ended while the button was on screen
        queue.stop(run_id)


def _progress(status: Status) -> None:
    if status.stage == "training":
        share = (status.epoch + status.batch / max(status.batches, 1)) / max(status.epochs, 1)
        text = f"Epoch {min(status.epoch + 1, status.epochs)} of {status.epochs}"
        if status.batches:
            text += f", batch {status.batch} of {status.batches}"
        if status.rate:
            text += f" · {status.rate:,.0f} images/s · about {words.duration(status.seconds_left)} left"
    else:
        share = status.batch / status.batches if status.batches else 0.0
        text = {
            "starting": "Starting TensorFlow",
            "preparing": "Preparing the images",
            "downloading": "Downloading the starting weights (MB)",
            "features": "Features of the frozen part, computed once",
            "predicting": "Predicting every split with the best model",
        }.get(status.stage, status.stage)
        if status.batches:
            text += f", {status.batch:,} of {status.batches:,}"
    st.progress(min(max(share, 0.0), 1.0), text=f"{text} · {status.device}" if status.device else text)
