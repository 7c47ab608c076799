"""Bars: images per class, probabilities of one image, grey values of its pixels."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from cxr_core.evaluation.plots.style import PATTERNS, class_colour, figure
from cxr_core.formatting import plot_text


def class_counts(
    counts: Mapping[str, Mapping[str, int]],
    titles: Mapping[str, str],
    *,
    split_titles: Mapping[str, str],
    dark: bool = False,
) -> go.Figure:
    """Images per class in each split, as bars with their numbers.

    Args:
        counts: split to class to number.
        titles: class to its title.
        split_titles: split to its title.
    """
    splits = list(counts)
    bars = []
    for position, (name, title) in enumerate(titles.items()):
        numbers = [counts[split].get(name, 0) for split in splits]
        shade = class_colour(name, position)
        pattern = {"shape": PATTERNS[position % len(PATTERNS)], "bgcolor": shade, "fgcolor": "#ffffff", "size": 7}
        bars.append(
            {
                "type": "bar",
                "y": [plot_text(split_titles.get(split, split)) for split in splits],
                "x": numbers,
                "name": plot_text(title),
                "orientation": "h",
                "text": [f"{number:,}" for number in numbers],
                "textposition": "outside",
                "cliponaxis": False,
                "marker": {"color": shade, "pattern": {**pattern, "fgopacity": 0.55}},
                "hovertemplate": "%{x:,} " + plot_text(title.lower()) + "<extra></extra>",
            }
        )
    return figure(
        bars,
        x={"visible": False},
        y={"autorange": "reversed"},
        height=60 + 30 * len(titles) * len(splits),
        top=40,
        right=56,
        dark=dark,
        bargap=0.28,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )


def class_probabilities(shares: Mapping[str, float], titles: Mapping[str, str], *, dark: bool = False) -> go.Figure:
    """The probability of each class of one image, as bars with percentages."""
    names = list(shares)
    bars = {
        "type": "bar",
        "y": [plot_text(titles.get(name, name)) for name in names],
        "x": [shares[name] for name in names],
        "orientation": "h",
        "text": [f"{shares[name]:.1%}" for name in names],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [class_colour(name, position) for position, name in enumerate(names)]},
        "hovertemplate": "%{y}: %{x:.2%}<extra></extra>",
    }
    return figure(
        [bars],
        x={"range": [0, 1.18], "visible": False},
        y={"autorange": "reversed"},
        height=40 + 46 * len(names),
        top=8,
        dark=dark,
        bargap=0.4,
    )


def pixel_histogram(pixels: npt.NDArray[np.uint8], *, dark: bool = False) -> go.Figure:
    """Histogram of the grey values of an image, in steps of four.

    Args:
        pixels: uint8 (H, W).
    """
    counts = np.bincount(pixels.ravel(), minlength=256).reshape(64, 4).sum(axis=1) / pixels.size
    bars = {
        "type": "bar",
        "x": np.arange(2, 256, 4),
        "y": counts,
        "width": 4,
        "marker": {"color": "#3fb0c0" if dark else "#0b6b78"},
        "hovertemplate": "grey about %{x}: %{y:.1%} of the pixels<extra></extra>",
    }
    axis = {"title": {"text": "Grey value, 0 black to 255 white"}, "range": [0, 256]}
    return figure([bars], x=axis, y={"tickformat": ".0%"}, height=300, top=8, dark=dark)
