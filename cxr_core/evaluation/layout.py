"""How a report looks: one HTML file with all that it needs in it, for a screen without internet and for paper."""

import json
import time
from collections.abc import Mapping
from html import escape

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from cxr_core import __version__
from cxr_core.evaluation import plots

_CSS = """
:root { color-scheme: light; } * { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: #14242e; background: #fff; margin: 0 auto; max-width: 64rem; padding: 1.5rem; }
h1 { margin: 0; } h2 { margin: 2.2rem 0 .6rem; border-bottom: 2px solid #0b6b78; } h3 { margin: 1.4rem 0 .4rem; }
table { border-collapse: collapse; margin: .5rem 0; font-size: 14px; }
th, td { border: 1px solid #c9d5db; padding: .25rem .6rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child, .facts td { text-align: left; } thead th { background: #eef3f5; }
td { overflow-wrap: anywhere; } .numbers td { white-space: nowrap; } .long th:first-child { min-width: 9rem; }
.settings { columns: 12rem; padding: 0; list-style: none; } .settings span { color: #43555f; }
.wide { overflow-x: auto; } .quiet { color: #43555f; font-size: 14px; } a { color: #0b6b78; }
.warn { border: 2px solid #b45f06; border-radius: 8px; padding: .6rem 1rem; font-weight: 600; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(27rem, 100%), 1fr)); gap: 1rem; }
.two > * { min-width: 0; } figure { margin: 0; break-inside: avoid; } dt { font-weight: 600; } dd { margin: 0 0 .4rem; }
button { font: inherit; font-size: 13px; color: #0b6b78; background: #fff; border: 1px solid #c9d5db; border-radius: 6px;
padding: .15rem .6rem; cursor: pointer; } button:focus-visible, a:focus-visible { outline: 3px solid #0b6b78; }
@page { size: A4; margin: 15mm 14mm 18mm;
@bottom-left { content: "Research software, not a medical device"; font: 8pt sans-serif; color: #43555f; }
@bottom-right { content: counter(page) " of " counter(pages); font: 8pt sans-serif; color: #43555f; } }
@media screen { details > h3 { display: none; } }
@media print {
body { max-width: none; padding: 0; font-size: 10.5pt; }
table, .quiet, .settings { font-size: 9pt; } th, td { padding: .15rem .35rem; }
.two { display: block; } .wide { overflow: visible; } .screen, summary { display: none !important; }
h2, h3 { break-after: avoid; } table, tr, li, dl > div { break-inside: avoid; } .again { break-before: page; }
}
"""
# On paper nothing can be opened or scrolled: what is folded is unfolded, and each plot gets the width of the page.
_SCRIPT = """
const plots = []
function draw(id, figure, config) {
  Plotly.newPlot(id, figure.data, figure.layout, config)
  plots.push(document.getElementById(id))
}
function save(id, format) {
  Plotly.downloadImage(id, { format, scale: format === "png" ? 3 : 1, filename: id })
}
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((one) => { one.open = true })
  plots.forEach((one) => Plotly.relayout(one, { width: 660, autosize: false }))
})
addEventListener("afterprint", () => {
  plots.forEach((one) => { Plotly.relayout(one, { width: null, autosize: true }) })
})
"""


def page(title: str, body: str) -> str:
    """The whole file; `body` is HTML."""
    made = time.strftime("%d %B %Y, %H:%M")
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<link rel=icon href='data:,'><title>{escape(title)}</title><style>{_CSS}</style>"
        f"<script>{get_plotlyjs()}</script><script>{_SCRIPT}</script></head><body><h1>{escape(title)}</h1>"
        f"<p class=quiet>Chest X-ray workbench {escape(__version__)}, {made}</p>{body}</body></html>"
    )


def facts(rows: Mapping[str, str]) -> str:
    """Names and what there is to say of each."""
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows.items())
    return f"<div class='wide facts'><table>{lines}</table></div>"


def settings(rows: Mapping[str, str]) -> str:
    """Many short names and values, in columns."""
    lines = "".join(f"<li><span>{escape(name)}</span> {escape(value or '–')}</li>" for name, value in rows.items())
    return f"<ul class=settings>{lines}</ul>"


def table(content: pd.DataFrame, *, intervals: bool = False, long: bool = False) -> str:
    """With its index as the first column; intervals, in brackets, stand below their values; `long` names get more room."""
    named = content.rename_axis(columns=str(content.index.name or ""), index=None)
    whole = named.to_html(escape=True, na_rep="–", border=0)
    if intervals:
        whole = whole.replace(" (", "<br>(")
    kind = "wide" + " numbers" * intervals + " long" * long
    return f"<div class='{kind}'>{whole}</div>"


def plot(title: str, figure: go.Figure, name: str, number: int) -> str:
    """A plot under its title, with buttons that save it as `<title>-<name>-<number>`."""
    short = title.replace(":", ",").split(",", maxsplit=1)[0].lower()
    place = "".join(one if one.isalnum() else "-" for one in f"{short}-{name}-{number}")
    figure.update_layout(paper_bgcolor="#ffffff", plot_bgcolor="#ffffff")
    config = {**plots.CONFIG, "displayModeBar": False}
    drawn = json.dumps(json.loads(figure.to_json())).replace("</", "<\\/")
    buttons = "".join(
        f"<button type=button onclick=\"save('{place}', '{kind}')\" aria-label='Save {escape(title)} as {kind.upper()}'>"
        f"{kind.upper()}</button> "
        for kind in ("png", "svg")
    )
    return (
        f"<figure><h3>{escape(title)}</h3>"
        f"<div id='{place}' role=img aria-label='{escape(title)}; its numbers are in the tables'></div>"
        f"<script>draw('{place}', {drawn}, {json.dumps(config)})</script><p class=screen>{buttons}</p></figure>"
    )
