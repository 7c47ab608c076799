"""Frame of every page: first start, start of waiting runs, footer, and errors as sentences."""

from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.formparsers import MultiPartParser

from cxr_core import __version__, formatting, workspace
from cxr_core.errors import CxrError, sentence
from cxr_core.formatting import DISCLAIMER
from cxr_core.jobs import background_jobs, queue
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from pages.ui import sessions, url_state

MultiPartParser.spool_max_size = 2**31  # else uploads of more than 1 MB pass through a file on the disk
ICON = str(Path(__file__).with_name("icon.png"))  # a picture of our own: a named icon would be fetched from elsewhere


def show(page: st.Page) -> None:
    """Run a page inside the frame; an error that a person can mend is shown as a sentence, bugs propagate."""
    sessions.arrive()
    _reload_if_cold()
    _first_start()
    url_state.enter(page.url_path)
    with st.sidebar:
        st.caption(f"Chest X-ray workbench {__version__}")
    body, foot = st.container(), st.empty()
    foot.caption(DISCLAIMER)  # before the page, which may end early; `messages.disclaimer` takes it away
    st.session_state["footer"] = foot
    try:
        with body:
            start_waiting_runs()
            page.run()
    except (CxrError, OSError) as error:
        body.error(formatting.verbatim(sentence(error)), icon=":material/error:")


def start_waiting_runs(*, notice: bool = True) -> list[Run]:
    """Start what waits in the queue and return all runs; a failure is a notice, if one is wanted, and the page stays."""
    try:
        return queue.look()
    except (CxrError, OSError) as error:
        if notice:
            st.warning(
                f"**Waiting runs cannot be started now.** {formatting.verbatim(sentence(error))} They stay in the queue; all else "
                "works.",
                icon=":material/pause_circle:",
            )
        return runs.list_runs()


def _first_start() -> None:
    """A workspace that has never held a dataset gets the synthetic one, so that there is something to see."""
    if not workspace.datasets().exists():
        try:
            background_jobs.add("synthetic")
        except (CxrError, OSError):  # another browser was faster, or the disk cannot be written: adding by hand says so
            return


@st.cache_resource(show_spinner=False)
def _server() -> dict[str, bool]:
    """State of this server process."""
    return {"warm": False}


def _reload_if_cold() -> None:
    """A fresh Streamlit server takes any folder called pages for pages of its own, until it has met `st.navigation`.

    So the very first visitor of a page other than Home is told that it does not exist; one reload puts that right.
    """
    server, address = _server(), st.context.url
    cold = not server["warm"]
    server["warm"] = True
    if cold and address and urlsplit(address).path.strip("/"):
        st.html("<script>window.location.reload()</script>", unsafe_allow_javascript=True)
        st.stop()
