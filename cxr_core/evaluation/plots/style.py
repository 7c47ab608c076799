"""The look that all plots share: readable on a light and on a dark page, by the colour-blind, and on a phone.

Colour never speaks alone: lines differ in dash and mark, bars in pattern.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

# After Okabe & Ito (2008), shifted to a contrast of 3 : 1 on white and on near-black
CLASS_COLOURS = {"normal": "#009E73", "viral": "#B07D00", "bacterial": "#CC5A94"}
_OTHER_COLOURS = ("#2F8FCB", "#D55E00", "#7A828C", "#8C6BB1")
_REMOVED_BUTTONS = ("select2d", "lasso2d", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d")
QUIET = "#8aa0ab"  # of lines that only help the eye
BACKGROUND = {False: "#fbfcfd", True: "#0f171d"}  # the page's own, so that a saved picture can be read on any other
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKS = ("circle", "diamond", "square", "triangle-up", "x", "star")
PATTERNS = ("", "/", "x", ".", "-", "|")
LEGEND = {"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0}
DIAGONAL = {"type": "line", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "line": {"dash": "dot", "width": 1.5, "color": QUIET}}


def class_colour(name: str, position: int = 0) -> str:
    """The colour of a class; others take one by their position."""
    return CLASS_COLOURS.get(name, _OTHER_COLOURS[position % len(_OTHER_COLOURS)])


def config(name: str) -> dict[str, Any]:
    """Plotly's options of a plot: one button, a camera that saves it under this name, large enough for a slide."""
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
    return {
        "displaylogo": False,
        "showSendToCloud": False,
        "responsive": True,
        "modeBarButtonsToRemove": list(_REMOVED_BUTTONS),
        "toImageButtonOptions": {"format": "png", "scale": 3, "filename": safe},
    }


CONFIG = config("chest-x-ray-workbench")


def figure(
    traces: Sequence[Mapping[str, Any]],
    *,
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    height: int,
    dark: bool,
    second: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
    top: int = 16,
    right: int = 16,
    **layout: Any,
) -> go.Figure:
    """A figure with what all plots have in common: the page's background, font and ink, and no dragging.

    It is built in one call, since plotly validates all of a figure again at each change, which takes four times as long.

    Args:
        traces: as plotly's JSON has them.
        x, y: the axes.
        second: the axes x2 and y2.
        height, top, right: pixels, of all and of the margins.
        layout: what else the layout has.
    """
    ink, grid = ("#dfe8ec", "#26353f") if dark else ("#22343e", "#e2eaee")
    common = {"automargin": True, "gridcolor": grid, "zeroline": False, "fixedrange": True}
    axes = {"xaxis": {**common, **x}, "yaxis": {**common, **y}}
    if second:
        axes |= {"xaxis2": {**common, **second[0]}, "yaxis2": {**common, **second[1]}}
    options = {
        "height": height,
        "margin": {"l": 8, "r": right, "t": top, "b": 8},
        "paper_bgcolor": BACKGROUND[dark],
        "plot_bgcolor": BACKGROUND[dark],
        "font": {"family": "Source Sans, Source Sans Pro, sans-serif", "size": 14, "color": ink},
        "hoverlabel": {"font": {"size": 14}},
        "dragmode": False,
        **axes,
        **layout,
    }
    return go.Figure(list(traces), options)


def share_axis(title: str, *, most: float = 1.02) -> dict[str, Any]:
    """An axis from 0 to 100 %."""
    return {"title": {"text": title}, "range": [-0.01, most], "tickformat": ".0%"}


def error_bars(value: pd.Series, low: pd.Series, high: pd.Series, **style: Any) -> dict[str, Any]:
    """The bars of an interval around a value."""
    return {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low, **style}


def vertical_line(x: float, *, width: float) -> dict[str, Any]:
    """A dotted line from bottom to top."""
    line = {"dash": "dot", "width": width, "color": QUIET}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "y domain", "line": line}
