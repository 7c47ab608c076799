"""The plots of the results workbench, drawn as those of `figures`: lines differ in dash and mark, not in colour alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cxr_core.evaluation import curves
from cxr_core.evaluation.answers import Answers
from cxr_core.evaluation.figures import colour, plain

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKS = ("circle", "diamond", "square", "triangle-up", "x", "star")
_LEGEND = {"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0}
_QUIET = "#8aa0ab"

Line = tuple[str, str, np.ndarray, np.ndarray]  # title, colour, x, y


def _lines(lines: Sequence[Line], hover: str) -> go.Figure:
    """Lines (title, colour, x, y), each with a dash of its own and a few marks."""
    figure = go.Figure()
    for place, (title, shade, every_x, every_y) in enumerate(lines):
        x, y = curves.thinned(every_x, every_y)
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                name=title,
                mode="lines",
                line={"color": shade, "dash": DASHES[place % len(DASHES)], "width": 2.4},
                hovertemplate=hover,
            )
        )
        some = np.unique(np.linspace(0, len(x) - 1, 9).astype(int)[1:-1]) if len(x) > 2 else np.arange(len(x))
        figure.add_trace(
            go.Scatter(
                x=x[some],
                y=y[some],
                mode="markers",
                marker={"color": shade, "symbol": MARKS[place % len(MARKS)], "size": 8},
                hoverinfo="skip",
                showlegend=False,
            )
        )
    figure.update_layout(legend=_LEGEND)
    return figure


def roc(lines: Sequence[Line], *, dark: bool = False) -> go.Figure:
    """Receiver operating characteristics.

    Args:
        lines: title (with the area), colour, false positive rates, true positive rates.
    """
    figure = _lines(lines, "found %{y:.1%} at %{x:.1%} false alarms")
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"dash": "dot", "width": 1, "color": _QUIET})
    figure.update_xaxes(title="False alarms (1 − specificity)", range=[-0.01, 1.01], tickformat=".0%", fixedrange=True)
    figure.update_yaxes(title="Found (sensitivity)", range=[-0.01, 1.02], tickformat=".0%", fixedrange=True)
    return plain(figure, dark, height=430)


def precision_recall(lines: Sequence[Line], *, dark: bool = False) -> go.Figure:
    """Precision over recall.

    Args:
        lines: title (with the average precision), colour, recalls, precisions.
    """
    figure = _lines(lines, "precision %{y:.1%} at recall %{x:.1%}")
    figure.update_xaxes(title="Recall", range=[-0.01, 1.01], tickformat=".0%", fixedrange=True)
    figure.update_yaxes(title="Precision", range=[-0.01, 1.02], tickformat=".0%", fixedrange=True)
    return plain(figure, dark, height=430)


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
    figure = go.Figure()
    for place, (title, table) in enumerate(tables.items()):
        figure.add_trace(
            go.Scatter(
                x=table["confidence"],
                y=table["share"],
                name=title,
                mode="lines+markers",
                line={"color": shades[place % 2], "dash": DASHES[place], "width": 2},
                marker={"symbol": MARKS[place], "size": 9},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": table["share_high"] - table["share"],
                    "arrayminus": table["share"] - table["share_low"],
                    "thickness": 1.3,
                    "width": 4,
                },
                customdata=table["n"],
                hovertemplate="%{customdata:,} images, sure to %{x:.1%}, right %{y:.1%}",
            )
        )
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"dash": "dot", "width": 1.5, "color": _QUIET})
    figure.update_xaxes(title="Probability given to the answer", range=[0, 1.02], tickformat=".0%", fixedrange=True)
    figure.update_yaxes(title="Share of right answers", range=[0, 1.04], tickformat=".0%", fixedrange=True)
    figure.update_layout(legend=_LEGEND)
    return plain(figure, dark, height=420)


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
    figure = go.Figure()
    edges = np.linspace(0, 1, 21)
    for place, ((name, values), shade) in enumerate(zip(groups.items(), shades, strict=True)):
        counts = np.histogram(values, edges)[0] / max(len(values), 1)
        figure.add_trace(
            go.Scatter(
                x=np.repeat(edges, 2)[1:-1],
                y=np.repeat(counts, 2),
                name=f"{name} ({len(values):,})",
                mode="lines",
                line={"color": shade, "width": 2.2, "dash": DASHES[place % len(DASHES)]},
                fill="tozeroy",
                fillpattern={"shape": ("", "/", "x", ".", "-", "|")[place % 6], "size": 6, "fgcolor": shade},
                fillcolor=f"rgba{(*(int(shade[at : at + 2], 16) for at in (1, 3, 5)), 0.14)}",
                hovertemplate="%{y:.1%} of them about %{x:.2f}",
            )
        )
    if threshold is not None:
        figure.add_vline(x=threshold, line={"dash": "dot", "width": 2, "color": _QUIET}, annotation_text="threshold")
    figure.update_xaxes(title=title, range=[0, 1], fixedrange=True)
    figure.update_yaxes(title="Share of the images", tickformat=".0%", rangemode="tozero", fixedrange=True)
    figure.update_layout(legend=_LEGEND)
    return plain(figure, dark, height=340)


def forest(
    table: pd.DataFrame, *, title: str, reference: float | None = None, share: bool = True, dark: bool = False
) -> go.Figure:
    """Figures with their intervals, one below the other.

    Args:
        table: columns name, value, low, high (NaN allowed), mark (0 to 5, the sign of the row) and hover.
        title: of the axis.
        reference: where a dotted line stands.
        share: the axis is in per cent.
    """
    figure = go.Figure()
    shade = "#3fb0c0" if dark else "#0b6b78"
    figure.add_trace(
        go.Scatter(
            x=table["value"],
            y=table["name"],
            mode="markers",
            marker={"symbol": [MARKS[int(mark) % len(MARKS)] for mark in table["mark"]], "size": 10, "color": shade},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": table["high"] - table["value"],
                "arrayminus": table["value"] - table["low"],
                "color": shade,
                "thickness": 1.6,
                "width": 5,
            },
            customdata=table["hover"],
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    if reference is not None:
        figure.add_vline(x=reference, line={"dash": "dot", "width": 1.5, "color": _QUIET})
    ends = table[["value", "low", "high"]].to_numpy(dtype=float)
    narrow = bool(np.isfinite(ends).any()) and np.nanmax(ends) - np.nanmin(ends) < 0.08
    ticks = (".1%" if narrow else ".0%") if share else (".3f" if narrow else ".2f")
    figure.update_xaxes(title=title, tickformat=ticks, nticks=8, fixedrange=True)
    figure.update_yaxes(autorange="reversed", fixedrange=True)
    return plain(figure, dark, height=90 + 30 * len(table))
