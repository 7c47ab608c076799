"""The frame of the app and the table of its pages. Run it with: streamlit run streamlit_app.py"""

import streamlit as st
from starlette.middleware import Middleware

from cxr_core import logs
from cxr_core.server.browser_security import APP_CLOSED, APP_POLICY, BrowserSecurity, allowed_hosts
from pages.ui import app_shell, sessions
from pages.ui.upload_limits import UploadLimits


def show_page() -> None:
    """Draw the page of the address: the script that a session runs."""
    st.set_page_config(page_icon=app_shell.ICON, layout="wide")

    page = st.navigation(
        {
            "Overview": [st.Page("pages/overview/home.py", title="Home", icon=":material/home:", default=True)],
            "Data": [
                st.Page("pages/data/browse.py", title="Browse", icon=":material/photo_library:"),
                st.Page("pages/data/audit.py", title="Audit", icon=":material/fact_check:"),
                st.Page("pages/data/curate.py", title="Curate", icon=":material/tune:"),
            ],
            "Model": [
                st.Page("pages/model/train.py", title="Train", icon=":material/model_training:"),
                st.Page("pages/model/results.py", title="Results", icon=":material/query_stats:"),
                st.Page("pages/model/leaderboard.py", title="Leaderboard", icon=":material/leaderboard:"),
                st.Page("pages/model/compare.py", title="Compare", icon=":material/compare:"),
                st.Page("pages/model/predict.py", title="Predict", icon=":material/radiology:"),
            ],
        },
        expanded=True,
    )
    app_shell.show(page)


if __name__ == "__main__":
    show_page()
else:  # imported once, by the server
    logs.configure()
    protection = Middleware(BrowserSecurity, hosts=allowed_hosts(), policy=APP_POLICY, closed=APP_CLOSED)
    middleware = [protection, Middleware(sessions.OwnFiles), Middleware(UploadLimits)]
    app = st.App(__file__, middleware=middleware, lifespan=sessions.lifespan)
