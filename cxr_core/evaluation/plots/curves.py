"""Receiver operating characteristics and precision-recall curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cxr_core.arrays import Floats
from cxr_core.evaluation import curves
from cxr_core.evaluation.plots.style import DASHES, DIAGONAL, LEGEND, MARKS, class_colour, figure, share_axis
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.formatting import plot_text

Line = tuple[str, str, Floats, Floats]  # title, colour, x, y


def roc(lines: Sequence[Line], *, dark: bool = False) -> go.Figure:
    """Receiver operating characteristics.

    Args:
        lines: title (with the area), colour, false positive rates, true positive rates.
    """
    return figure(
        _lines(lines, "sensitivity %{y:.1%} at %{x:.1%} false positives"),
        x=share_axis("False positive rate (1 − specificity)"),
        y=share_axis("True positive rate (sensitivity)"),
        height=430,
        dark=dark,
        shapes=[DIAGONAL],
        legend=LEGEND,
    )


def precision_recall(lines: Sequence[Line], *, dark: bool = False) -> go.Figure:
    """Precision over recall.

    Args:
        lines: title (with the average precision), colour, recalls, precisions.
    """
    return figure(
        _lines(lines, "precision %{y:.1%} at recall %{x:.1%}"),
        x=share_axis("Recall"),
        y=share_axis("Precision"),
        height=430,
        dark=dark,
        legend=LEGEND,
    )


def class_curves(predictions: PredictionSet, titles: Mapping[str, str]) -> tuple[list[Line], list[Line]]:
    """The lines of `roc` and of `precision_recall`: each class that can have one against the rest."""
    rocs: list[Line] = []
    recalls: list[Line] = []
    for code, name in enumerate(predictions.classes):
        is_class, score = predictions.true == code, predictions.probabilities[:, code]
        if not is_class.any() or is_class.all():
            continue
        shade, title = class_colour(name, code), titles[name]
        false, true, _ = curves.roc(is_class, score)
        precision, recall, _ = curves.precision_recall(is_class, score)
        rocs.append((f"{title}, area {curves.auc(is_class, score):.3f}", shade, false, true))
        average = curves.average_precision(is_class, score)
        recalls.append((f"{title}, average {average:.3f}", shade, recall, precision))
    return rocs, recalls


def _lines(lines: Sequence[Line], hover: str) -> list[dict[str, Any]]:
    """Traces of lines (title, colour, x, y), each with a dash of its own and a few marks."""
    traces = []
    for position, (title, shade, every_x, every_y) in enumerate(lines):
        x, y = curves.thinned(every_x, every_y)
        some = np.unique(np.linspace(0, len(x) - 1, 9).astype(int)[1:-1]) if len(x) > 2 else np.arange(len(x))
        dash, mark = DASHES[position % len(DASHES)], MARKS[position % len(MARKS)]
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
        }  # for the legend: dash and mark together
        traces += [
            {"type": "scatter", "name": plot_text(title), "legendgroup": str(position), **part}
            for part in (curve, marks, sign)
        ]
    return traces
