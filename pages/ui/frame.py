"""What surrounds every page: first start, footer, and errors told in words."""

import streamlit as st

from cxr_core import __version__, workspace
from cxr_core.errors import CxrError
from cxr_core.jobs import adding, queue
from pages.ui.notices import DISCLAIMER


def show(page: st.Page) -> None:
    """Run a page inside the frame; whatever a person can mend is shown as a sentence, bugs propagate."""
    _first_start()
    queue.dispatch()
    with st.sidebar:
        st.caption(f":material/info: {DISCLAIMER}")
        st.caption(f"Chest X-ray workbench {__version__}")
    try:
        page.run()
    except CxrError as error:
        st.error(str(error), icon=":material/error:")


def _first_start() -> None:
    """A workspace that has never held a dataset gets the synthetic one, so that there is something to see."""
    if not workspace.datasets().exists():
        try:
            adding.start("synthetic")
        except CxrError:  # another browser was a moment faster
            return
