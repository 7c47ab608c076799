"""The reliability diagram, and how a probability is distributed in groups of images."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cxr_core.evaluation.plots.style import (
    DASHES,
    DIAGONAL,
    LEGEND,
    MARKS,
    PATTERNS,
    error_bars,
    figure,
    share_axis,
    vertical_line,
)
from cxr_core.formatting import plot_text


def reliability(tables: Mapping[str, pd.DataFrame], *, dark: bool = False) -> go.Figure:
    """Accuracy over confidence, with 95 % intervals; on the dotted line the two are equal.

    Args:
        tables: title to `calibration.reliability`.
    """
    shades = ("#56B4E9", "#E69F00") if dark else ("#0072B2", "#B45F06")
    traces = [
        {
            "type": "scatter",
            "x": table["confidence"],
            "y": table["share"],
            "name": title,
            "mode": "lines+markers",
            "line": {"color": shades[position % 2], "dash": DASHES[position], "width": 2},
            "marker": {"symbol": MARKS[position], "size": 9},
            "error_y": error_bars(table["share"], table["share_low"], table["share_high"], thickness=1.3, width=4),
            "customdata": table["n"],
            "hovertemplate": "%{customdata:,} images, mean probability %{x:.1%}, accuracy %{y:.1%}",
        }
        for position, (title, table) in enumerate(tables.items())
    ]
    return figure(
        traces,
        x=share_axis("Probability of the predicted class"),
        y=share_axis("Accuracy", most=1.04),
        height=420,
        dark=dark,
        shapes=[DIAGONAL],
        legend=LEGEND,
    )


def score_distributions(
    groups: Mapping[str, np.ndarray], shades: Sequence[str], *, title: str, threshold: float | None = None,
    dark: bool = False,
) -> go.Figure:  # fmt: skip
    """Histogram of a probability in each group of images, as shares of the group.

    Args:
        groups: title to (n,) probabilities.
        shades: a colour for each.
        title: of the axis.
        threshold: marked, if given.
    """
    edges = np.linspace(0, 1, 21)
    traces = []
    for position, ((name, values), shade) in enumerate(zip(groups.items(), shades, strict=True)):
        counts = np.histogram(values, edges)[0] / max(len(values), 1)
        traces.append(
            {
                "type": "scatter",
                "x": np.repeat(edges, 2)[1:-1],
                "y": np.repeat(counts, 2),
                "name": f"{plot_text(name)} ({len(values):,})",
                "mode": "lines",
                "line": {"color": shade, "width": 2.2, "dash": DASHES[position % len(DASHES)]},
                "fill": "tozeroy",
                "fillpattern": {"shape": PATTERNS[position % 6], "size": 6, "fgcolor": shade},
                "fillcolor": f"rgba{(*(int(shade[at : at + 2], 16) for at in (1, 3, 5)), 0.14)}",
                "hovertemplate": "%{y:.1%} of them about %{x:.2f}",
            }
        )
    mark = [] if threshold is None else [vertical_line(threshold, width=2)]
    note = {"y": 1, "yref": "y domain", "text": "threshold", "showarrow": False, "yanchor": "top"}
    side = "right" if threshold is not None and threshold > 0.5 else "left"
    return figure(
        traces,
        x={"title": {"text": plot_text(title)}, "range": [0, 1]},
        y={"title": {"text": "Share of the images"}, "tickformat": ".0%", "rangemode": "tozero"},
        height=340,
        dark=dark,
        shapes=mark,
        annotations=[] if threshold is None else [{**note, "x": threshold, "xanchor": side}],
        legend={**LEGEND, "y": -0.32},
    )
