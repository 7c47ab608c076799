"""The forest plot: estimates with their intervals, one below the other."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cxr_core.evaluation.plots.style import MARKS, error_bars, figure, vertical_line
from cxr_core.formatting import plot_text, shortened_end

LONGEST_NAME = 52  # characters of a row's name that fit beside each other on a phone


def forest(
    table: pd.DataFrame, *, title: str, reference: float | None = None, share: bool = True, dark: bool = False
) -> go.Figure:
    """Estimates with their intervals, one below the other; the name of each stands above it, so that it fits a phone.

    Args:
        table: columns name, value, low, high (NaN allowed), mark (0 to 5, the sign of the row) and hover.
        title: of the axis.
        reference: where a dotted line stands.
        share: the axis is in per cent.
    """
    shade = "#3fb0c0" if dark else "#0b6b78"
    rows = {
        "type": "scatter",
        "x": table["value"],
        "y": list(range(len(table))),
        "mode": "markers",
        "marker": {"symbol": [MARKS[int(mark) % len(MARKS)] for mark in table["mark"]], "size": 10, "color": shade},
        "error_x": error_bars(table["value"], table["low"], table["high"], color=shade, thickness=1.6, width=5),
        "customdata": table["hover"].map(plot_text),
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    above = {"x": 0, "xref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 7, "showarrow": False}
    names = [
        {
            **above,
            "y": position,
            "text": plot_text(shortened_end(name, LONGEST_NAME)),
        }
        for position, name in enumerate(table["name"])
    ]
    ends = table[["value", "low", "high"]].to_numpy(dtype=float)
    narrow = bool(np.isfinite(ends).any()) and np.nanmax(ends) - np.nanmin(ends) < 0.08
    ticks = (".1%" if narrow else ".0%") if share else (".3f" if narrow else ".2f")
    return figure(
        [rows],
        x={"title": {"text": plot_text(title)}, "tickformat": ticks, "nticks": 8},
        y={"range": [len(table) - 0.5, -0.9], "showticklabels": False, "showgrid": False},
        height=90 + 40 * len(table),
        dark=dark,
        shapes=[] if reference is None else [vertical_line(reference, width=1.5)],
        annotations=names,
    )
