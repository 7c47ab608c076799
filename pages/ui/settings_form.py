"""The settings of a run as widgets, each with its limits and meaning."""

import math
from collections.abc import Mapping
from typing import Any

import streamlit as st

from cxr_core.runs import config as settings


def settings_form(defaults: Mapping[str, Any], *, key: str, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A widget for every setting but those of `leave_out`.

    Args:
        defaults: value of each setting at first.
        key: of the widgets; another one brings its own defaults.

    Returns:
        The chosen values.
    """
    chosen = {}
    with st.container(horizontal=True):
        for name, setting in settings.SETTINGS.items():
            if name in leave_out:
                continue
            value, about = defaults[name], setting.metadata
            common = {"help": about["help"], "key": f"{key}-{name}", "persist_state": "session", "width": 200}
            if isinstance(value, bool):
                chosen[name] = st.checkbox(about["title"], value, **common)
            elif about.get("options"):
                chosen[name] = st.selectbox(about["title"], about["options"], about["options"].index(value), **common)
            elif isinstance(value, str):
                chosen[name] = st.text_input(about["title"], value, **common)
            else:
                low, high, step = (type(value)(about[edge]) for edge in ("low", "high", "step"))
                digits = 0 if isinstance(value, int) else max(2, math.ceil(-math.log10(step)))
                format_ = f"%.{digits}f" if digits else "%d"
                chosen[name] = st.number_input(about["title"], low, high, value, step=step, format=format_, **common)
    return chosen
