"""The confusion matrix, whose cells can be clicked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cxr_core.evaluation.plots.style import figure
from cxr_core.formatting import plot_text


def confusion_matrix(
    counts: Sequence[Sequence[int]],
    titles: Sequence[str],
    *,
    shares: bool = False,
    by: str = "true",
    chosen: tuple[int, int] | None = None,
    dark: bool = False,
) -> go.Figure:
    """A confusion matrix: rows true, columns predicted, shade by share. Its last trace takes the clicks on the cells.

    Args:
        counts: int (k, k).
        titles: k class titles.
        shares: write the share large and the count small, instead of the reverse.
        by: "true": shares of the row (recall on the diagonal); "predicted": of the column (precision on the diagonal).
        chosen: row and column of a cell to frame.
        dark: the page's background.
    """
    titles = [plot_text(title) for title in titles]
    values = np.asarray(counts)
    support = values.sum(axis=1 if by == "true" else 0, keepdims=True)
    share = values / np.maximum(support, 1)
    supports = np.broadcast_to(support, values.shape)
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
    annotations = []
    for row, column in np.ndindex(*values.shape):
        count, part = f"{values[row, column]:,}", f"{share[row, column]:.0%}" if supports[row, column] else "–"
        large, small = (part, count) if shares else (count, part)
        light_cell = (share[row, column] > 0.73) if dark else (share[row, column] < 0.78)  # contrast of 4 : 1 at least
        annotations.append(
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
    return figure(
        [heat, _click_targets(values, titles)],
        x={"title": {"text": "Predicted class"}, "side": "bottom", "range": [-0.5, len(titles) - 0.5], **ticks},
        y={"title": {"text": "True class"}, "autorange": "reversed", **ticks},
        height=130 + 95 * len(titles),
        dark=dark,
        annotations=annotations,
        shapes=frames,
    )


def _click_targets(values: Any, titles: Sequence[str]) -> dict[str, Any]:
    """Invisible squares over the cells, since a heatmap fires no click events; customdata is [row, column]."""
    cells = list(np.ndindex(*values.shape))
    sentences = _sentences(values, titles)
    return {
        "type": "scatter",
        "x": [column for _, column in cells],
        "y": [row for row, _ in cells],
        "mode": "markers",
        "marker": {"symbol": "square", "size": 78, "opacity": 0, "color": "#888888"},
        "customdata": [list(cell) for cell in cells],
        "hovertext": [sentences[row][column] for row, column in cells],
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
        verdict = "correctly" if row == column else "wrongly"
        share = f"{count:,} of {total:,} {titles[row].lower()} images ({count / total:.1%})"
        return f"{share}<br>were {verdict} predicted as {titles[column].lower()}"

    return [[sentence(row, column) for column in range(len(titles))] for row in range(len(titles))]
