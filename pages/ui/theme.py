"""The theme of the page: light or dark."""

import streamlit as st


def dark() -> bool:
    """Check whether the theme is dark; plots choose their shades by it."""
    return st.context.theme.type == "dark"
