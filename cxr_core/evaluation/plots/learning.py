"""Learning curves: accuracy and loss by epoch."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cxr_core.evaluation.plots.style import QUIET, figure


def learning_curves(history: pd.DataFrame, *, best_epoch: int | None = None, dark: bool = False) -> go.Figure:
    """Accuracy and loss by epoch, training solid with dots, validation dashed with diamonds, the best epoch marked.

    Args:
        history: columns epoch, loss, accuracy, val_loss, val_accuracy; any may be missing, and there may be no row.
        best_epoch: the one whose weights are used, from 1.
    """
    lines = (
        ("Training", "", "solid", "circle", "#56B4E9" if dark else "#0072B2"),
        ("Validation", "val_", "dash", "diamond", "#E69F00" if dark else "#B45F06"),
    )
    in_legend: set[str] = set()
    traces = []
    for panel, quantity in (("", "accuracy"), ("2", "loss")):
        for title, prefix, dash, symbol, shade in lines:
            name = prefix + quantity
            if name not in history:
                continue
            traces.append(
                {
                    "type": "scatter",
                    "x": history["epoch"],
                    "y": history[name],
                    "xaxis": f"x{panel}",
                    "yaxis": f"y{panel}",
                    "name": title,
                    "legendgroup": title,
                    "showlegend": title not in in_legend,
                    "mode": "lines+markers",
                    "line": {"color": shade, "dash": dash, "width": 2},
                    "marker": {"symbol": symbol, "size": 7 if len(history) < 40 else 3},
                    "hovertemplate": "%{y:.1%}" if quantity == "accuracy" else "%{y:.3f}",
                }
            )
            in_legend.add(title)
    halves = {"": [0, 0.44], "2": [0.56, 1]}
    heading = {"yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False, "font": {"size": 16}}
    annotations = [
        {"text": text, "xref": "paper", "x": sum(halves[panel]) / 2, "xanchor": "center", **heading}
        for panel, text in (("", "Accuracy"), ("2", "Loss"))
    ]
    marks = []
    if best_epoch is not None:
        at = {"x0": best_epoch, "x1": best_epoch, "y0": 0, "y1": 1, "type": "line"}
        marks = [
            {
                **at,
                "xref": f"x{panel}",
                "yref": f"y{panel} domain",
                "line": {"dash": "dot", "width": 1.5, "color": QUIET},
            }
            for panel in halves
        ]
        annotations.append(
            {
                "x": best_epoch, "y": 0, "xref": "x", "yref": "y domain", "text": "best", "showarrow": False,
                "xanchor": "left", "yanchor": "bottom", "font": {"size": 12},
            }
        )  # fmt: skip
    # Equal first and last epochs leave no range, so one is given; losses may start very high and would flatten the rest.
    last = max(2, int(history["epoch"].max()) if len(history) else 2)
    epochs = {"title": {"text": "Epoch"}, "range": [0.5, last + 0.5], "dtick": 1 if last <= 10 else None, "nticks": 6,
              "tickangle": 0}  # fmt: skip
    top = None
    if len(losses := history.filter(regex="loss$").to_numpy(dtype=float).ravel()) and np.isfinite(losses).any():
        top = [0, min(float(np.nanquantile(losses, 0.9)) * 1.5, float(np.nanmax(losses)) * 1.08)]
    return figure(
        traces,
        x={**epochs, "domain": halves[""], "anchor": "y"},
        y={"tickformat": ".0%", "range": [0, 1.02], "anchor": "x"},
        second=({**epochs, "domain": halves["2"], "anchor": "y2"}, {"range": top, "anchor": "x2"}),
        height=330,
        top=64,
        dark=dark,
        annotations=annotations,
        shapes=marks,
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right", "yanchor": "bottom"},
    )
