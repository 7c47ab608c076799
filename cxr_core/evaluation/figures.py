"""The plots, readable on a light and on a dark page, by the colour-blind, and on a phone; colour never speaks alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

# After Okabe & Ito (2008), shifted to a contrast of 3 : 1 on white and on near-black
CLASS_COLOURS = {"normal": "#009E73", "viral": "#B07D00", "bacterial": "#CC5A94"}
_FURTHER = ("#2F8FCB", "#D55E00", "#7A828C", "#8C6BB1")
CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,
    "responsive": True,
    "modeBarButtonsToRemove": [
        "select2d",
        "lasso2d",
        "zoom2d",
        "pan2d",
        "zoomIn2d",
        "zoomOut2d",
        "autoScale2d",
        "resetScale2d",
    ],
}
_PATTERNS = ("", "/", "x", ".", "-", "|")


def colour(name: str, place: int = 0) -> str:
    """The colour of a class; classes without one of their own take one by their place."""
    return CLASS_COLOURS.get(name, _FURTHER[place % len(_FURTHER)])


def confusion(
    counts: Sequence[Sequence[int]],
    titles: Sequence[str],
    *,
    shares: bool = False,
    by: str = "true",
    chosen: tuple[int, int] | None = None,
    dark: bool = False,
) -> go.Figure:
    """A confusion matrix: rows true, columns predicted, shade by share. Its last trace lies over the cells to be clicked.

    Args:
        counts: int (k, k).
        titles: k class titles.
        shares: write the share large and the count small, instead of the reverse.
        by: "true": shares of the row (recall on the diagonal); "predicted": of the column (precision on the diagonal).
        chosen: row and column of a cell to frame.
        dark: the page's background.
    """
    values = np.asarray(counts)
    support = values.sum(axis=1 if by == "true" else 0, keepdims=True)
    share = values / np.maximum(support, 1)
    whole = np.broadcast_to(support, values.shape)
    figure = go.Figure(
        go.Heatmap(
            z=share,
            zmin=0,
            zmax=1,
            colorscale=[[0, "#16242d"], [1, "#3fb0c0"]] if dark else [[0, "#eef5f7"], [1, "#0b6b78"]],
            showscale=False,
            xgap=3,
            ygap=3,
            customdata=_sentences(values, titles),
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    for row, column in np.ndindex(*values.shape):
        count, part = f"{values[row, column]:,}", f"{share[row, column]:.0%}" if whole[row, column] else "–"
        large, small = (part, count) if shares else (count, part)
        light_cell = (share[row, column] > 0.73) if dark else (share[row, column] < 0.78)  # contrast of 4 : 1 at least
        figure.add_annotation(
            x=column,
            y=row,
            text=f"<b>{large}</b><br><span style='font-size:12px'>{small}</span>",
            showarrow=False,
            font={"size": 19, "color": "#10222b" if light_cell else "#ffffff"},
        )
    if chosen is not None:
        row, column = chosen
        frame = {"color": "#f5a623" if dark else "#b3470b", "width": 4}
        figure.add_shape(
            type="rect", x0=column - 0.47, x1=column + 0.47, y0=row - 0.47, y1=row + 0.47, line=frame
        )  # fmt: skip
    _cover(figure, values, titles)
    names = [title.replace(" ", "<br>") for title in titles]
    ticks = {"tickmode": "array", "tickvals": list(range(len(titles))), "ticktext": names, "fixedrange": True}
    edge = len(titles) - 0.5
    figure.update_xaxes(title="Predicted class", side="bottom", range=[-0.5, edge], **ticks)
    figure.update_yaxes(title="True class", autorange="reversed", **ticks)
    return plain(figure, dark, height=130 + 95 * len(titles))


def _cover(figure: go.Figure, values: Any, titles: Sequence[str]) -> None:
    """Invisible squares over the cells, since a click on a heatmap is told to nobody; customdata is [row, column]."""
    cells = list(np.ndindex(*values.shape))
    said = _sentences(values, titles)
    figure.add_trace(
        go.Scatter(
            x=[column for _, column in cells],
            y=[row for row, _ in cells],
            mode="markers",
            marker={"symbol": "square", "size": 78, "opacity": 0, "color": "#888888"},
            customdata=[list(cell) for cell in cells],
            hovertext=[said[row][column] for row, column in cells],
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
            unselected={"marker": {"opacity": 0}},
            selected={"marker": {"opacity": 0}},
        )
    )


def _sentences(values: Any, titles: Sequence[str]) -> list[list[str]]:
    def sentence(row: int, column: int) -> str:
        total, count = int(values[row].sum()), int(values[row, column])
        if not total:
            return f"No {titles[row].lower()} images in this split"
        verdict = "rightly" if row == column else "wrongly"
        share = f"{count:,} of {total:,} {titles[row].lower()} images ({count / total:.1%})"
        return f"{share}<br>were {verdict} called {titles[column].lower()}"

    return [[sentence(row, column) for column in range(len(titles))] for row in range(len(titles))]


def learning_curves(history: pd.DataFrame, *, best_epoch: int | None = None, dark: bool = False) -> go.Figure:
    """Accuracy and loss by epoch, training solid with dots, validation dashed with diamonds, the kept epoch marked.

    Made in one piece, since Plotly checks a figure anew with each change, and a running training is drawn again and again.

    Args:
        history: columns epoch, loss, accuracy, val_loss, val_accuracy; any may be missing, and there may be no row.
        best_epoch: the kept one, from 1.
    """
    lines = [
        _line(history, panel, quantity, *kind)
        for panel, quantity in (("", "accuracy"), ("2", "loss"))
        for kind in (
            ("Training", "", "solid", "circle", "#56B4E9" if dark else "#0072B2"),
            ("Validation", "val_", "dash", "diamond", "#E69F00" if dark else "#B45F06"),
        )
        if kind[1] + quantity in history
    ]
    for place, line in enumerate(lines):
        line["showlegend"] = line["name"] not in [one["name"] for one in lines[:place]]
    titles = [
        {"text": text, "x": x, "y": 1.0, "xref": "paper", "yref": "paper", "xanchor": "center", "yanchor": "bottom",
         "showarrow": False, "font": {"size": 16}}
        for text, x in (("Accuracy", 0.22), ("Loss", 0.78))
    ]  # fmt: skip
    kept, note = _kept(best_epoch)
    look = _look(dark, height=330, top=64)
    # Equal first and last epochs leave no range, so one is given; losses may start very high and would flatten the rest.
    last = max(2, int(history["epoch"].max()) if len(history) else 2)
    across = {
        **look.pop("axis"), "title": {"text": "Epoch"}, "range": [0.5, last + 0.5], "dtick": 1 if last <= 10 else None,
        "nticks": 6, "tickangle": 0, "fixedrange": True,
    }  # fmt: skip
    up = {name: across[name] for name in ("automargin", "gridcolor", "zeroline", "fixedrange")}
    layout = {
        "xaxis": {**across, "anchor": "y", "domain": [0.0, 0.44]},
        "yaxis": {**up, "anchor": "x", "domain": [0.0, 1.0], "tickformat": ".0%", "range": [0, 1.02]},
        "xaxis2": {**across, "anchor": "y2", "domain": [0.56, 1.0]},
        "yaxis2": {**up, "anchor": "x2", "domain": [0.0, 1.0], "range": _losses(history)},
        "annotations": [*titles, *note],
        "shapes": kept,
        "hovermode": "x unified",
        "legend": {"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right", "yanchor": "bottom"},
        **look,
    }
    return go.Figure({"data": lines, "layout": layout})


def _line(
    history: pd.DataFrame, panel: str, quantity: str, title: str, prefix: str, dash: str, symbol: str, shade: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": history["epoch"],
        "y": history[prefix + quantity],
        "name": title,
        "legendgroup": title,
        "mode": "lines+markers",
        "line": {"color": shade, "dash": dash, "width": 2},
        "marker": {"symbol": symbol, "size": 7 if len(history) < 40 else 3},
        "hovertemplate": "%{y:.1%}" if quantity == "accuracy" else "%{y:.3f}",
        "xaxis": f"x{panel}",
        "yaxis": f"y{panel}",
    }


def _kept(best_epoch: int | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The marks of the kept epoch in both panels, and the word beside the first."""
    if best_epoch is None:
        return [], []
    marks = [
        {"type": "line", "x0": best_epoch, "x1": best_epoch, "y0": 0, "y1": 1, "xref": f"x{panel}", "yref": f"y{panel} domain",
         "line": {"dash": "dot", "width": 1.5, "color": "#8aa0ab"}}
        for panel in ("", "2")
    ]  # fmt: skip
    word = {"x": best_epoch, "y": 0, "xref": "x", "yref": "y domain", "text": "kept", "showarrow": False, "xanchor": "left",
            "yanchor": "bottom", "font": {"size": 12}}  # fmt: skip
    return marks, [word]


def _losses(history: pd.DataFrame) -> list[float] | None:
    """The range of the losses' axis."""
    losses = history.filter(regex="loss$").to_numpy(dtype=float).ravel()
    if not np.isfinite(losses).any():
        return None
    return [0, min(float(np.nanquantile(losses, 0.9)) * 1.5, float(np.nanmax(losses)) * 1.08)]


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
    figure = go.Figure()
    for place, (name, title) in enumerate(titles.items()):
        numbers = [counts[split].get(name, 0) for split in splits]
        figure.add_trace(
            go.Bar(
                y=[split_titles.get(split, split) for split in splits],
                x=numbers,
                name=title,
                orientation="h",
                text=[f"{number:,}" for number in numbers],
                textposition="outside",
                cliponaxis=False,
                marker={
                    "color": colour(name, place),
                    "pattern": {
                        "shape": _PATTERNS[place % len(_PATTERNS)],
                        "bgcolor": colour(name, place),
                        "fgcolor": "#ffffff",
                        "fgopacity": 0.55,
                        "size": 7,
                    },
                },
                hovertemplate="%{x:,} " + title.lower() + "<extra></extra>",
            )
        )
    figure.update_yaxes(autorange="reversed", fixedrange=True)
    figure.update_xaxes(visible=False, fixedrange=True)
    figure.update_layout(
        bargap=0.28, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    )
    return plain(figure, dark, height=60 + 30 * len(titles) * len(splits), top=40, right=56)


def probabilities(found: Mapping[str, float], titles: Mapping[str, str], *, dark: bool = False) -> go.Figure:
    """The probability of each class of one image, as bars with percentages."""
    names = list(found)
    figure = go.Figure(
        go.Bar(
            y=[titles.get(name, name) for name in names],
            x=[found[name] for name in names],
            orientation="h",
            text=[f"{found[name]:.1%}" for name in names],
            textposition="outside",
            cliponaxis=False,
            marker={"color": [colour(name, place) for place, name in enumerate(names)]},
            hovertemplate="%{y}: %{x:.2%}<extra></extra>",
        )
    )
    figure.update_xaxes(range=[0, 1.18], visible=False, fixedrange=True)
    figure.update_yaxes(autorange="reversed", fixedrange=True)
    figure.update_layout(bargap=0.4)
    return plain(figure, dark, height=40 + 46 * len(names), top=8)


def histogram(pixels: npt.NDArray[np.uint8], *, dark: bool = False) -> go.Figure:
    """How often each grey value of an image occurs, in steps of four.

    Args:
        pixels: uint8 (H, W).
    """
    counts = np.bincount(pixels.ravel(), minlength=256).reshape(64, 4).sum(axis=1) / pixels.size
    figure = go.Figure(
        go.Bar(
            x=np.arange(2, 256, 4),
            y=counts,
            width=4,
            marker={"color": "#3fb0c0" if dark else "#0b6b78"},
            hovertemplate="grey about %{x}: %{y:.1%} of the pixels<extra></extra>",
        )
    )
    figure.update_xaxes(title="Grey value, 0 black to 255 white", range=[0, 256], fixedrange=True)
    figure.update_yaxes(tickformat=".0%", fixedrange=True)
    return plain(figure, dark, height=300, top=8)


def plain(figure: go.Figure, dark: bool, *, height: int, top: int = 16, right: int = 16) -> go.Figure:
    """What all plots have in common: no background of their own, the page's letters and ink, no dragging."""
    look = _look(dark, height=height, top=top, right=right)
    axis = look.pop("axis")
    figure.update_layout(**look)
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def _look(dark: bool, *, height: int, top: int = 16, right: int = 16) -> dict[str, Any]:
    """A layout, with what goes for each axis under "axis"."""
    return {
        "height": height,
        "margin": {"l": 8, "r": right, "t": top, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {
            "family": "Source Sans, Source Sans Pro, sans-serif",
            "size": 14,
            "color": "#dfe8ec" if dark else "#22343e",
        },
        "hoverlabel": {"font": {"size": 14}},
        "dragmode": False,
        "axis": {"automargin": True, "gridcolor": "#26353f" if dark else "#e2eaee", "zeroline": False},
    }
