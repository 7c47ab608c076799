"""The plots of the results workbench, drawn as those of `figures`: lines differ in dash and mark, not in colour alone."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cxr_core.evaluation import curves
from cxr_core.evaluation.answers import Answers
from cxr_core.evaluation.figures import QUIET, colour, drawn

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKS = ("circle", "diamond", "square", "triangle-up", "x", "star")
_LEGEND = {"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0}
_DIAGONAL = {"type": "line", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "line": {"dash": "dot", "width": 1.5, "color": QUIET}}
_NAME = 52  # characters of a row's name that fit beside each other on a phone

Line = tuple[str, str, np.ndarray, np.ndarray]  # title, colour, x, y


def _lines(lines: Sequence[Line], hover: str) -> list[dict[str, Any]]:
    """Traces of lines (title, colour, x, y), each with a dash of its own and a few marks."""
    traces = []
    for place, (title, shade, every_x, every_y) in enumerate(lines):
        x, y = curves.thinned(every_x, every_y)
        some = np.unique(np.linspace(0, len(x) - 1, 9).astype(int)[1:-1]) if len(x) > 2 else np.arange(len(x))
        dash, mark = DASHES[place % len(DASHES)], MARKS[place % len(MARKS)]
        line = {"color": shade, "dash": dash, "width": 2.4}
        marker = {"color": shade, "symbol": mark, "size": 8}
        curve = {"x": x, "y": y, "mode": "lines", "line": line, "hovertemplate": hover, "showlegend": False}
        marks = {
            "x": x[some],
            "y": y[some],
            "mode": "markers",
            "marker": marker,
            "hoverinfo": "skip",
            "showlegend": False,
        }
        sign = {
            "x": [None],
            "y": [None],
            "mode": "lines+markers",
            "line": line,
            "marker": marker,
        }  # dash and mark, named
        traces += [
            {"type": "scatter", "name": escape(title, quote=False), "legendgroup": str(place), **one}
            for one in (curve, marks, sign)
        ]
    return traces


def _share(title: str, *, most: float = 1.02) -> dict[str, Any]:
    """An axis from 0 to 100 %."""
    return {"title": {"text": title}, "range": [-0.01, most], "tickformat": ".0%"}


def roc(lines: Sequence[Line], *, dark: bool = False) -> go.Figure:
    """Receiver operating characteristics.

    Args:
        lines: title (with the area), colour, false positive rates, true positive rates.
    """
    return drawn(
        _lines(lines, "found %{y:.1%} at %{x:.1%} false alarms"),
        x=_share("False alarms (1 − specificity)"),
        y=_share("Found (sensitivity)"),
        height=430,
        dark=dark,
        shapes=[_DIAGONAL],
        legend=_LEGEND,
    )


def precision_recall(lines: Sequence[Line], *, dark: bool = False) -> go.Figure:
    """Precision over recall.

    Args:
        lines: title (with the average precision), colour, recalls, precisions.
    """
    return drawn(
        _lines(lines, "precision %{y:.1%} at recall %{x:.1%}"),
        x=_share("Recall"),
        y=_share("Precision"),
        height=430,
        dark=dark,
        legend=_LEGEND,
    )


def of_classes(answers: Answers, titles: Mapping[str, str]) -> tuple[list[Line], list[Line]]:
    """The lines of `roc` and of `precision_recall`: each class that can have one against the rest."""
    rocs: list[Line] = []
    recalls: list[Line] = []
    for code, name in enumerate(answers.classes):
        own, score = answers.true == code, answers.probabilities[:, code]
        if not own.any() or own.all():
            continue
        shade, title = colour(name, code), titles[name]
        false, true, _ = curves.roc(own, score)
        precision, recall, _ = curves.precision_recall(own, score)
        rocs.append((f"{title}, area {curves.auc(own, score):.3f}", shade, false, true))
        average = curves.average_precision(own, score)
        recalls.append((f"{title}, average {average:.3f}", shade, recall, precision))
    return rocs, recalls


def reliability(tables: Mapping[str, pd.DataFrame], *, dark: bool = False) -> go.Figure:
    """Share right over confidence, with 95 % intervals; on the dotted line probabilities mean what they say.

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
            "line": {"color": shades[place % 2], "dash": DASHES[place], "width": 2},
            "marker": {"symbol": MARKS[place], "size": 9},
            "error_y": _reach(table["share"], table["share_low"], table["share_high"], thickness=1.3, width=4),
            "customdata": table["n"],
            "hovertemplate": "%{customdata:,} images, sure to %{x:.1%}, right %{y:.1%}",
        }
        for place, (title, table) in enumerate(tables.items())
    ]
    return drawn(
        traces,
        x=_share("Probability given to the answer"),
        y=_share("Share of right answers", most=1.04),
        height=420,
        dark=dark,
        shapes=[_DIAGONAL],
        legend=_LEGEND,
    )


def _reach(value: pd.Series, low: pd.Series, high: pd.Series, **looks: Any) -> dict[str, Any]:
    """The bars of an interval around a value."""
    return {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low, **looks}


def scores(
    groups: Mapping[str, np.ndarray], shades: Sequence[str], *, title: str, threshold: float | None = None,
    dark: bool = False,
) -> go.Figure:  # fmt: skip
    """How a probability is spread in each group of images, as shares of the group.

    Args:
        groups: title to (n,) probabilities.
        shades: a colour for each.
        title: of the axis.
        threshold: marked, if given.
    """
    edges = np.linspace(0, 1, 21)
    traces = []
    for place, ((name, values), shade) in enumerate(zip(groups.items(), shades, strict=True)):
        counts = np.histogram(values, edges)[0] / max(len(values), 1)
        traces.append(
            {
                "type": "scatter",
                "x": np.repeat(edges, 2)[1:-1],
                "y": np.repeat(counts, 2),
                "name": f"{name} ({len(values):,})",
                "mode": "lines",
                "line": {"color": shade, "width": 2.2, "dash": DASHES[place % len(DASHES)]},
                "fill": "tozeroy",
                "fillpattern": {"shape": ("", "/", "x", ".", "-", "|")[place % 6], "size": 6, "fgcolor": shade},
                "fillcolor": f"rgba{(*(int(shade[at : at + 2], 16) for at in (1, 3, 5)), 0.14)}",
                "hovertemplate": "%{y:.1%} of them about %{x:.2f}",
            }
        )
    mark = [] if threshold is None else [_upright(threshold, width=2)]
    note = {"y": 1, "yref": "y domain", "text": "threshold", "showarrow": False, "yanchor": "top"}
    side = "right" if threshold is not None and threshold > 0.5 else "left"
    return drawn(
        traces,
        x={"title": {"text": title}, "range": [0, 1]},
        y={"title": {"text": "Share of the images"}, "tickformat": ".0%", "rangemode": "tozero"},
        height=340,
        dark=dark,
        shapes=mark,
        annotations=[] if threshold is None else [{**note, "x": threshold, "xanchor": side}],
        legend={**_LEGEND, "y": -0.32},
    )


def _upright(x: float, *, width: float) -> dict[str, Any]:
    """A dotted line from bottom to top."""
    line = {"dash": "dot", "width": width, "color": QUIET}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "y domain", "line": line}


def forest(
    table: pd.DataFrame, *, title: str, reference: float | None = None, share: bool = True, dark: bool = False
) -> go.Figure:
    """Figures with their intervals, one below the other; the name of each stands above it, so that it fits a phone.

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
        "error_x": _reach(table["value"], table["low"], table["high"], color=shade, thickness=1.6, width=5),
        "customdata": table["hover"],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    above = {"x": 0, "xref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 7, "showarrow": False}
    names = [
        {**above, "y": place, "text": escape(name if len(name) <= _NAME else name[: _NAME - 1] + "…", quote=False)}
        for place, name in enumerate(table["name"])
    ]
    ends = table[["value", "low", "high"]].to_numpy(dtype=float)
    narrow = bool(np.isfinite(ends).any()) and np.nanmax(ends) - np.nanmin(ends) < 0.08
    ticks = (".1%" if narrow else ".0%") if share else (".3f" if narrow else ".2f")
    return drawn(
        [rows],
        x={"title": {"text": title}, "tickformat": ticks, "nticks": 8},
        y={"range": [len(table) - 0.5, -0.9], "showticklabels": False, "showgrid": False},
        height=90 + 40 * len(table),
        dark=dark,
        shapes=[] if reference is None else [_upright(reference, width=1.5)],
        annotations=names,
    )
