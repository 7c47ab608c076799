"""What surrounds every page: first start, footer, and errors told in words."""

from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.formparsers import MultiPartParser

from cxr_core import __version__, workspace
from cxr_core.errors import CxrError
from cxr_core.formatting import DISCLAIMER
from cxr_core.jobs import background_jobs, queue

MultiPartParser.spool_max_size = 2**31  # else uploads of more than 1 MB pass through a file on the disk
ICON = str(Path(__file__).with_name("icon.png"))  # a picture of our own: a named icon would be fetched from elsewhere


def show(page: st.Page) -> None:
    """Run a page inside the frame; whatever a person can mend is shown as a sentence, bugs propagate."""
    _reload_if_cold()
    _first_start()
    with st.sidebar:
        st.caption(f":material/info: {DISCLAIMER}")
        st.caption(f"Chest X-ray workbench {__version__}")
    body = st.container()
    st.caption(DISCLAIMER)  # below every page too: on a phone the sidebar is folded away
    queue.look()
    try:
        with body:
            page.run()
    except CxrError as error:
        body.error(str(error), icon=":material/error:")


def _first_start() -> None:
    """A workspace that has never held a dataset gets the synthetic one, so that there is something to see."""
    if not workspace.datasets().exists():
        try:
            background_jobs.add("synthetic")
        except CxrError:  # another browser was a moment faster
            return


@st.cache_resource(show_spinner=False)
def _server() -> dict[str, bool]:
    """What this server process remembers."""
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
