"""What the person's theme is."""

import streamlit as st


def dark() -> bool:
    """Whether the screen is dark; figures choose their shades by it."""
    return st.context.theme.type == "dark"
