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
_BUTTONS = ("select2d", "lasso2d", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d")
QUIET = "#8aa0ab"  # of lines that only help the eye
PAPER = {False: "#fbfcfd", True: "#0f171d"}  # the page's own, so that a saved picture can be read on any other
_PATTERNS = ("", "/", "x", ".", "-", "|")


def colour(name: str, place: int = 0) -> str:
    """The colour of a class; classes without one of their own take one by their place."""
    return CLASS_COLOURS.get(name, _FURTHER[place % len(_FURTHER)])


def config(name: str) -> dict[str, Any]:
    """What a plot may do: one button, a camera that saves it under this name, large enough for a slide."""
    safe = "".join(one if one.isalnum() or one in "._-" else "-" for one in name)
    return {
        "displaylogo": False,
        "showSendToCloud": False,
        "responsive": True,
        "modeBarButtonsToRemove": list(_BUTTONS),
        "toImageButtonOptions": {"format": "png", "scale": 3, "filename": safe},
    }


CONFIG = config("chest-x-ray-workbench")


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
    heat = {
        "type": "heatmap",
        "z": share,
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "#16242d"], [1, "#3fb0c0"]] if dark else [[0, "#eef5f7"], [1, "#0b6b78"]],
        "showscale": False,
        "xgap": 3,
        "ygap": 3,
        "customdata": _sentences(values, titles),
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    notes = []
    for row, column in np.ndindex(*values.shape):
        count, part = f"{values[row, column]:,}", f"{share[row, column]:.0%}" if whole[row, column] else "–"
        large, small = (part, count) if shares else (count, part)
        light_cell = (share[row, column] > 0.73) if dark else (share[row, column] < 0.78)  # contrast of 4 : 1 at least
        notes.append(
            {
                "x": column,
                "y": row,
                "text": f"<b>{large}</b><br><span style='font-size:12px'>{small}</span>",
                "showarrow": False,
                "font": {"size": 19, "color": "#10222b" if light_cell else "#ffffff"},
            }
        )
    frames = []
    if chosen is not None:
        row, column = chosen
        line = {"color": "#f5a623" if dark else "#b3470b", "width": 4}
        edges = {"x0": column - 0.47, "x1": column + 0.47, "y0": row - 0.47, "y1": row + 0.47}
        frames.append({"type": "rect", "line": line, **edges})
    names = [title.replace(" ", "<br>") for title in titles]
    ticks = {"tickmode": "array", "tickvals": list(range(len(titles))), "ticktext": names}
    return drawn(
        [heat, _cover(values, titles)],
        x={"title": {"text": "Predicted class"}, "side": "bottom", "range": [-0.5, len(titles) - 0.5], **ticks},
        y={"title": {"text": "True class"}, "autorange": "reversed", **ticks},
        height=130 + 95 * len(titles),
        dark=dark,
        annotations=notes,
        shapes=frames,
    )


def _cover(values: Any, titles: Sequence[str]) -> dict[str, Any]:
    """Invisible squares over the cells, since a click on a heatmap is told to nobody; customdata is [row, column]."""
    cells = list(np.ndindex(*values.shape))
    said = _sentences(values, titles)
    return {
        "type": "scatter",
        "x": [column for _, column in cells],
        "y": [row for row, _ in cells],
        "mode": "markers",
        "marker": {"symbol": "square", "size": 78, "opacity": 0, "color": "#888888"},
        "customdata": [list(cell) for cell in cells],
        "hovertext": [said[row][column] for row, column in cells],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "showlegend": False,
        "unselected": {"marker": {"opacity": 0}},
        "selected": {"marker": {"opacity": 0}},
    }


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

    Args:
        history: columns epoch, loss, accuracy, val_loss, val_accuracy; any may be missing, and there may be no row.
        best_epoch: the kept one, from 1.
    """
    lines = (
        ("Training", "", "solid", "circle", "#56B4E9" if dark else "#0072B2"),
        ("Validation", "val_", "dash", "diamond", "#E69F00" if dark else "#B45F06"),
    )
    named: set[str] = set()
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
                    "showlegend": title not in named,
                    "mode": "lines+markers",
                    "line": {"color": shade, "dash": dash, "width": 2},
                    "marker": {"symbol": symbol, "size": 7 if len(history) < 40 else 3},
                    "hovertemplate": "%{y:.1%}" if quantity == "accuracy" else "%{y:.3f}",
                }
            )
            named.add(title)
    halves = {"": [0, 0.44], "2": [0.56, 1]}
    heading = {"yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False, "font": {"size": 16}}
    notes = [
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
        notes.append(
            {
                "x": best_epoch, "y": 0, "xref": "x", "yref": "y domain", "text": "kept", "showarrow": False,
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
    return drawn(
        traces,
        x={**epochs, "domain": halves[""], "anchor": "y"},
        y={"tickformat": ".0%", "range": [0, 1.02], "anchor": "x"},
        second=({**epochs, "domain": halves["2"], "anchor": "y2"}, {"range": top, "anchor": "x2"}),
        height=330,
        top=64,
        dark=dark,
        annotations=notes,
        shapes=marks,
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right", "yanchor": "bottom"},
    )


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
    for place, (name, title) in enumerate(titles.items()):
        numbers = [counts[split].get(name, 0) for split in splits]
        shade = colour(name, place)
        pattern = {"shape": _PATTERNS[place % len(_PATTERNS)], "bgcolor": shade, "fgcolor": "#ffffff", "size": 7}
        bars.append(
            {
                "type": "bar",
                "y": [split_titles.get(split, split) for split in splits],
                "x": numbers,
                "name": title,
                "orientation": "h",
                "text": [f"{number:,}" for number in numbers],
                "textposition": "outside",
                "cliponaxis": False,
                "marker": {"color": shade, "pattern": {**pattern, "fgopacity": 0.55}},
                "hovertemplate": "%{x:,} " + title.lower() + "<extra></extra>",
            }
        )
    return drawn(
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


def probabilities(found: Mapping[str, float], titles: Mapping[str, str], *, dark: bool = False) -> go.Figure:
    """The probability of each class of one image, as bars with percentages."""
    names = list(found)
    bars = {
        "type": "bar",
        "y": [titles.get(name, name) for name in names],
        "x": [found[name] for name in names],
        "orientation": "h",
        "text": [f"{found[name]:.1%}" for name in names],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [colour(name, place) for place, name in enumerate(names)]},
        "hovertemplate": "%{y}: %{x:.2%}<extra></extra>",
    }
    return drawn(
        [bars],
        x={"range": [0, 1.18], "visible": False},
        y={"autorange": "reversed"},
        height=40 + 46 * len(names),
        top=8,
        dark=dark,
        bargap=0.4,
    )


def histogram(pixels: npt.NDArray[np.uint8], *, dark: bool = False) -> go.Figure:
    """How often each grey value of an image occurs, in steps of four.

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
    return drawn([bars], x=axis, y={"tickformat": ".0%"}, height=300, top=8, dark=dark)


def drawn(
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
    """A figure with what all plots have in common: the page's background, letters and ink, and no dragging.

    It is put together in one go, since plotly looks through all of a figure again at each change: that took four times as long.

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
    whole = {
        "height": height,
        "margin": {"l": 8, "r": right, "t": top, "b": 8},
        "paper_bgcolor": PAPER[dark],
        "plot_bgcolor": PAPER[dark],
        "font": {"family": "Source Sans, Source Sans Pro, sans-serif", "size": 14, "color": ink},
        "hoverlabel": {"font": {"size": 14}},
        "dragmode": False,
        **axes,
        **layout,
    }
    return go.Figure(list(traces), whole)
