"""The report: runs as one HTML file that needs nothing else, on a screen without internet or on paper.

What is interactive comes from plotly.js, which is written into the file; everything a reader must know is text or a table too.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from cxr_core import __version__, spreadsheet, workspace
from cxr_core.data import audit, datasets, manifest
from cxr_core.errors import BadInput, CxrError
from cxr_core.evaluation import (
    answers,
    background,
    calibration,
    charts,
    comparison,
    figures,
    fitted,
    metrics,
    scorecard,
    subgroups,
)
from cxr_core.evaluation.answers import Answers
from cxr_core.models import catalogue
from cxr_core.runs import folder as runs
from cxr_core.runs.config import to_document
from cxr_core.runs.folder import Run

DISCLAIMER = "Research software, not a medical device. Nothing in this report may guide the care of a patient."
LIMITS = (
    "Figures hold for images of the same kind as the ones tested; other hospitals, ages and devices may give others.",
    "Intervals tell what the chance of which images were in the split may do; they know nothing of wrong labels.",
    "A network may use traits of the files instead of the lungs; see the results by group.",
    "The test split is for reporting: epoch, temperature and threshold are chosen on validation images.",
)
_CSS = """
:root { color-scheme: light; } body { font: 15px/1.5 system-ui, sans-serif; color: #14242e; margin: 0 auto; max-width: 62rem;
padding: 1.5rem; } h1 { margin: 0; } h2 { margin: 2rem 0 .5rem; border-bottom: 2px solid #0b6b78; } h3 { margin: 1.2rem 0 .4rem; }
table { border-collapse: collapse; margin: .5rem 0; font-size: 14px; } th, td { border: 1px solid #d5dfe4; padding: .25rem .6rem;
text-align: right; } th:first-child, td:first-child { text-align: left; } thead th { background: #eef3f5; }
.wide { overflow-x: auto; }
.warn { border: 2px solid #b45f06; border-radius: 8px; padding: .6rem 1rem; font-weight: 600; } .plot { break-inside: avoid; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem; } a { color: #0b6b78; }
@page { size: A4; margin: 14mm; } @media print { body { max-width: 180mm; padding: 0; font-size: 11px; } table { font-size: 10px; }
.two { grid-template-columns: 1fr; } h2, h3 { break-after: avoid; } table, tr { break-inside: avoid; }
.modebar, .screen { display: none !important; } }
"""


def html(run_ids: Sequence[str], *, split: str = "test", title: str = "") -> str:
    """The whole file as text.

    Args:
        run_ids: one run, or several to compare.
        split: whose images are reported.

    Raises:
        UnknownName: no such run, or it has no predictions for the split.
        BadInput: no run.
    """
    ids = list(dict.fromkeys(run_ids))
    if not ids:
        raise BadInput("A report is about at least one run. Name one.")
    found = [runs.get(one) for one in ids]
    parts = [f"<p class=warn>{escape(DISCLAIMER)}</p>"]
    said = {run.id: answers.read(run.id, split) for run in found}
    if len(found) > 1:
        parts.append(_comparison(found, said, split))
    parts += [_run(run, said[run.id], split, place) for place, run in enumerate(found)]
    parts.append("<h2>Limits</h2><ul>" + "".join(f"<li>{escape(one)}</li>" for one in LIMITS) + "</ul>")
    heading = title or ("Report of a run" if len(found) == 1 else f"Comparison of {len(found)} runs")
    return _page(heading, "\n".join(parts))


def _page(title: str, body: str) -> str:
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<link rel=icon href='data:,'><title>{escape(title)}</title><style>{_CSS}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>{escape(title)}</h1>"
        f"<p>Chest X-ray workbench {escape(__version__)}</p>{body}</body></html>"
    )


def _run(run: Run, said: Answers, split: str, place: int) -> str:
    about = background.of(said, run.config.data)
    card = scorecard.card(said, None if about is None else about["patient"])
    titles = {name: _title(name) for name in said.classes}
    parts = [
        f"<h2>{escape(catalogue.title(run.config.model))}, {escape(run.id)}</h2>",
        _data_card(run),
        _model_card(run),
    ]
    parts.append(f"<h3>Figures on {len(said):,} {escape(split)} images, with 95 % intervals</h3>")
    parts.append(_table(_figures(card)))
    parts.append(_table(_by_class(said, card)))
    parts.append("<h3>Classification report</h3>" + _table(metrics.report_of(said.classes, said.confusion).round(2)))
    rocs, recalls = charts.of_classes(said, titles)
    reliability = {"As the network says it": calibration.reliability(said.probabilities.max(axis=1), said.right)}
    if (heat := _quietly(run.id)) is not None:
        after = fitted.tempered(said, heat.value)
        reliability[f"After temperature {heat.value:.2f}"] = calibration.reliability(
            after.probabilities.max(axis=1), after.right
        )
    history = runs.history(run.id)
    plots = {
        "Confusion matrix": figures.confusion(said.confusion.tolist(), list(titles.values())),
        "ROC, each class against the rest": charts.roc(rocs),
        "Precision and recall": charts.precision_recall(recalls),
        "Reliability": charts.reliability(reliability),
    }
    if len(history):
        plots["Learning curves"] = figures.learning_curves(
            history, best_epoch=runs.best_epoch(history, run.config.keep)
        )
    parts.append(
        "<div class=two>" + "".join(_plot(name, one, f"{place}-{name}") for name, one in plots.items()) + "</div>"
    )
    parts.append("<h3>The matrix as a table (rows true, columns predicted)</h3>")
    parts.append(_table(pd.DataFrame(said.confusion, index=list(titles.values()), columns=list(titles.values()))))
    if about is not None:
        groups = subgroups.table(said, about).round(3)
        parts.append("<h3>Results by group</h3>" + _table(groups.set_index("trait")))
    parts.append(_csv(run, said, split))
    return "\n".join(parts)


def _quietly(run_id: str) -> fitted.Temperature | None:
    try:
        return fitted.temperature(run_id)
    except CxrError:
        return None


def _comparison(found: Sequence[Run], said: Mapping[str, Answers], split: str) -> str:
    first, parts = found[0], [f"<h2>Compared on {escape(split)} images</h2>"]
    names = {run.id: f"{chr(65 + place)}: {catalogue.title(run.config.model)}" for place, run in enumerate(found)}
    parts.append("<ul>" + "".join(f"<li>{escape(names[run.id])}, {escape(run.id)}</li>" for run in found) + "</ul>")
    for other in found[1:]:
        shared = answers.common([said[first.id], said[other.id]])
        one, two = shared.members
        apart = comparison.differences(one, two, background.patients(one, first.config.data))
        test, (alike, kappa) = comparison.mcnemar(one, two), comparison.agreement(one, two)
        letter = names[other.id][0]
        parts.append(f"<h3>{letter} less A, on the {len(shared):,} images that both answered</h3>")
        parts.append(_table(_figures(apart)))
        parts.append(
            f"<p>Only A right: {test.first_only:,}; only {letter} right: {test.second_only:,}; McNemar's exact p = {test.p:.3g}. "
            f"Same answer for {alike:.1%}, Cohen's kappa {kappa:.2f}.</p>"
        )
    apart_settings = comparison.settings({names[run.id]: run.config for run in found})
    parts.append("<h3>Settings that differ</h3>" + _table(apart_settings))
    return "\n".join(parts)


def _data_card(run: Run) -> str:
    rows: dict[str, str] = {"Dataset": run.config.data, "Manifest": run.config.manifest}
    parts = ["<h3>Data</h3>"]
    try:
        dataset = datasets.get(run.config.data)
        rows |= {"Origin": dataset.origin, "Citation": dataset.citation or "–", "Images": f"{dataset.images:,}"}
        rows |= {"Patients": f"{dataset.patients:,}"} | (
            {"Synthetic": "yes: drawn, not photographed"} if dataset.synthetic else {}
        )
        made = manifest.get(run.config.data, run.config.manifest)
        rows |= {"Splits": manifest.SPLIT_RULES[made.split], "Balance": made.balance, "Seed": str(made.seed)}
        rows |= {"Excluded, relabelled": f"{made.excluded:,}, {made.relabelled:,}"}
        parts.append(_table(pd.DataFrame(made.counts).T))
        if (checked := audit.latest(run.config.data)) is not None:
            found = "; ".join(f"{one.title.lower()}: {one.images:,} images" for one in checked.findings) or "nothing"
            rows["Audit found"] = found
            rows["Shortcuts"] = (
                "; ".join(
                    f"{one.trait} tells {one.label} in {one.split} (area {one.auc:.2f})" for one in checked.shortcuts
                )
                or "none"
            )
    except CxrError:
        rows.setdefault("Note", "Not all of it is on this machine (any more).")
    parts.insert(1, _facts(rows))
    return "\n".join(parts)


def _model_card(run: Run) -> str:
    rows = {"Network": catalogue.title(run.config.model), "Recipe": run.config.recipe, "State": run.status.state}
    if run.status.ended and run.status.started:
        rows["Trained for"] = f"{run.status.ended - run.status.started:,.0f} s, {run.status.epoch} epochs"
    rows["Device"] = run.status.device or "–"
    try:
        made = workspace.read_json(run.folder / "environment.json")
        rows |= {str(name): str(value) for name, value in made.items()}
    except (FileNotFoundError, CxrError):
        rows["Versions"] = "not recorded"
    for name, kept in (("Temperature", _quietly(run.id)), ("Operating point", fitted.point(run.id))):
        rows[name] = "none kept" if kept is None else str(kept)
    settings = {name: str(value) for name, value in to_document(run.config).items()}
    return (
        "<h3>Model</h3>" + _facts(rows) + "<details><summary>All settings</summary>" + _facts(settings) + "</details>"
    )


def _figures(card: scorecard.Card) -> pd.DataFrame:
    return pd.DataFrame(
        {title: _told(card[name]) for name, title in scorecard.TITLES.items()}, index=["value", "95 % interval", "by"]
    ).T


def _by_class(said: Answers, card: scorecard.Card) -> pd.DataFrame:
    rows = {
        _title(name): {title: " ".join(_told(card[f"{of}:{name}"])[:2]) for of, title in scorecard.OF_CLASS.items()}
        for name in said.classes
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _told(one: scorecard.Figure) -> list[str]:
    if one.value is None:
        return ["–", "", ""]
    between = f"({one.low:.3f} to {one.high:.3f})" if one.interval else ""
    return [f"{one.value:.3f}", between, one.how]


def _title(name: str) -> str:
    return {"viral": "Viral pneumonia", "bacterial": "Bacterial pneumonia"}.get(
        name, name.replace("_", " ").capitalize()
    )


def _facts(rows: Mapping[str, str]) -> str:
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<div class=wide><table>{lines}</table></div>"


def _table(table: pd.DataFrame) -> str:
    return f"<div class=wide>{table.to_html(escape=True, na_rep='–', border=0)}</div>"


def _plot(name: str, figure: go.Figure, key: str) -> str:
    place = "plot-" + "".join(one if one.isalnum() else "-" for one in key)
    config = {**figures.CONFIG, "toImageButtonOptions": {"format": "svg", "filename": place}}
    drawn = json.dumps(json.loads(figure.to_json())).replace("</", "<\\/")
    return (
        f"<figure class=plot style='margin:0'><h3>{escape(name)}</h3>"
        f"<div id='{place}' role=img aria-label='{escape(name)}'></div>"
        f"<script>(() => {{ const f = {drawn}; Plotly.newPlot('{place}', f.data, f.layout, {json.dumps(config)}) }})()"
        "</script></figure>"
    )


def _csv(run: Run, said: Answers, split: str) -> str:
    content = base64.b64encode(spreadsheet.csv(said.table())).decode()
    return (
        f"<p class=screen><a download='{escape(run.id)}-{escape(split)}.csv' href='data:text/csv;base64,{content}'>"
        f"Predictions of {len(said):,} images as CSV</a>. Each plot has a button that saves it as SVG.</p>"
    )
