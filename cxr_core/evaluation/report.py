"""The report: runs as one HTML file that needs nothing else, on a screen without internet or on paper.

What is interactive comes from plotly.js, which is written into the file; everything a reader must know is text or a table too.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TypeVar

import pandas as pd

from cxr_core import csv_export, formatting, workspace
from cxr_core.data import audit, datasets, manifest
from cxr_core.errors import BadInput, CxrError
from cxr_core.evaluation import (
    calibration,
    comparison,
    confusion,
    decision_metrics,
    decision_rule,
    image_metadata,
    intervals,
    layout,
    metrics,
    plots,
    prediction_set,
    rule_store,
    subgroups,
)
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.models import catalogue
from cxr_core.runs import run_store as runs
from cxr_core.runs.config import to_document
from cxr_core.runs.run_store import Run

LIMITS = (
    "Figures hold for images of the same kind as the ones tested; other hospitals, ages and devices may give others.",
    "Intervals tell what the chance of which images were in the split may do; they know nothing of wrong labels.",
    "A network may use traits of the files instead of the lungs; see the results by group.",
    "The test split is for reporting: epoch, temperature and threshold are chosen on validation images.",
)
_SPLITS = {"train": "training", "val": "validation", "shifted": "shifted validation", "test": "test"}
Kept = TypeVar("Kept")


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
    parts = [f"<p class=warn>{escape(formatting.DISCLAIMER)}</p>"]
    if drawn := sorted({run.config.data for run in found if _is_drawn(run.config.data)}):
        parts.append(
            f"<p class=warn>The images of {escape(', '.join(drawn))} are synthetic: drawn, not photographed. Nothing here tells "
            "how good a network is on X-rays.</p>"
        )
    said = {run.id: prediction_set.read(run.id, split) for run in found}
    if len(found) > 1:
        parts.append(_comparison(found, said, split))
    parts += [_run(run, said[run.id], split, place) for place, run in enumerate(found)]
    parts.append(_glossary())
    parts.append("<h2>Limits</h2><ul>" + "".join(f"<li>{escape(one)}</li>" for one in LIMITS) + "</ul>")
    heading = title or ("Report of a run" if len(found) == 1 else f"Comparison of {len(found)} runs")
    return layout.page(heading, "\n".join(parts))


def _is_drawn(data: str) -> bool:
    try:
        return datasets.get(data).synthetic
    except CxrError:  # it is gone
        return False


def _run(run: Run, said: PredictionSet, split: str, place: int) -> str:
    about = image_metadata.read(said, run.config.data)
    patients = None if about is None else about["patient"]
    rule = _quietly(rule_store.of_run, run.id) or DecisionRule(said.classes)
    plain, said = said, decision_rule.decided(said, rule)
    card = metrics.estimate(said, patients, parts=("counts", "levels"))
    card |= metrics.estimate(decision_rule.calibrated(said, rule.temperature), patients, parts=("terms",))
    titles = [_title(name) for name in said.classes]
    again = " class=again" if place else ""
    parts = [
        f"<h2{again}>{escape(run.name or catalogue.title(run.config.model))}</h2>",
        f"<p class=quiet>Run {escape(run.id)}</p>",
        f"<h3>Figures on {len(said):,} {_SPLITS.get(split, escape(split))} images, with 95 % intervals</h3>",
        f"<p>Decision rule: {escape(rule.describe(_title))}.</p>",
        layout.table(_figures(card)),
        layout.table(_by_class(said, card), intervals=True),
        f"<p class=quiet>Intervals of accuracy, recall and precision: Wilson; of the others: {escape(card['macro_f1'].method)}, "
        "2,000 times within each class. What the figures mean is told at the end.</p>",
        "<h3>Confusion matrix (rows true, columns predicted)</h3>",
        layout.table(pd.DataFrame(said.confusion, index=titles, columns=titles)),
        "<h3>Classification report</h3>",
        layout.table(_report(said)),
        _decision(plain, rule),
        _plots(run, plain, rule, split, place),
    ]
    if about is not None and len(groups := subgroups.subgroup_table(said, about)):
        parts.append("<h3>Results by group</h3>" + layout.table(_groups(groups), intervals=True, long=True))
        parts.append(
            "<p class=quiet>* differs from all other images beyond chance (Newcombe's 95 % interval); of "
            f"{len(groups)} groups about {max(1, round(len(groups) / 20))} would by luck alone.</p>"
        )
    parts += [_data_card(run), _model_card(run, rule), _csv(run, plain, split)]
    return "\n".join(parts)


def _decision(plain: PredictionSet, rule: DecisionRule) -> str:
    """What a person is shown: which answers are confident, and what those are worth; beside it the highest probability."""
    found = decision_metrics.document(plain, rule)
    rows = {
        title: f"{formatting.percent(one['value'])} ({formatting.interval(one['ci95'])}), {one['count']:,} of {one['of']:,}"
        for name, title in decision_metrics.TITLES.items()
        if (one := found[name])["value"] is not None
    }
    parts = [
        "<h3>What a person is shown</h3>",
        f"<p>An answer is confident if the calibrated probability of its class is at least "
        f"{formatting.percent(rule.reject_threshold)}.</p>",
        layout.table(pd.DataFrame({"Value (95 % interval)": rows})),
    ]
    if rule.threshold is not None:
        right, n = int(plain.correct.sum()), len(plain)
        between = formatting.interval(intervals.wilson(right, n))
        parts.append(
            f"<p>By highest probability, as the paper counts, the accuracy is {formatting.percent(right / n)} ({between}).</p>"
        )
    return "\n".join(parts)


def _plots(run: Run, plain: PredictionSet, rule: DecisionRule, split: str, place: int) -> str:
    said = decision_rule.decided(plain, rule)
    titles = {name: _title(name) for name in said.classes}
    rocs, recalls = plots.class_curves(said, titles)
    reliability = {"Uncalibrated": calibration.reliability(said.confidence, said.correct)}
    if rule.is_calibrated:
        after = decision_rule.calibrated(said, rule.temperature)
        reliability[f"After temperature {rule.temperature:.2f}"] = calibration.reliability(
            after.confidence, after.correct
        )
    history = runs.history(run.id)
    shown = {"Confusion matrix": plots.confusion_matrix(said.confusion.tolist(), list(titles.values()))}
    if rocs:
        shown |= {
            "ROC, each class against the rest": plots.roc(rocs),
            "Precision and recall, each class against the rest": plots.precision_recall(recalls),
        }
    for code, title in enumerate(titles.values()):
        by_true = {
            other: said.probabilities[said.true == place, code]
            for place, other in enumerate(titles.values())
            if said.support[place]
        }
        shades = [plots.class_colour(other, place) for place, other in enumerate(said.classes) if said.support[place]]
        heading = f"Probability of {title.lower()}, by true class"
        shown[heading] = plots.score_distributions(by_true, shades, title="")
    shown["Reliability: do probabilities mean what they say?"] = plots.reliability(reliability)
    if len(history):
        best = runs.best_epoch(history, run.config.keep)
        shown["Learning curves"] = plots.learning_curves(history, best_epoch=best)
    name = f"{run.id}-{split}-{place}"
    drawn = "".join(layout.plot(title, one, name, number) for number, (title, one) in enumerate(shown.items()))
    table = layout.table(calibration.reliability_table(reliability).set_index("Version"))
    return f"<div class=two>{drawn}</div><details><summary>Reliability as a table</summary><h3>Reliability</h3>{table}</details>"


def _quietly(read: Callable[[str], Kept | None], run_id: str) -> Kept | None:
    """What is kept with a run; None also where its file is damaged."""
    try:
        return read(run_id)
    except CxrError:
        return None


def _comparison(found: Sequence[Run], said: Mapping[str, PredictionSet], split: str) -> str:
    first, parts = found[0], [f"<h2>Compared on {_SPLITS.get(split, escape(split))} images</h2>"]
    names = {
        run.id: f"{chr(65 + place)}: {run.name or catalogue.title(run.config.model)}" for place, run in enumerate(found)
    }
    parts.append("<ul>" + "".join(f"<li>{escape(names[run.id])}, {escape(run.id)}</li>" for run in found) + "</ul>")
    for other in found[1:]:
        rules = [_quietly(rule_store.of_run, run.id) or DecisionRule(run.config.classes) for run in (first, other)]
        called = [decision_rule.decided(said[run.id], rule) for run, rule in zip((first, other), rules, strict=True)]
        one, two = prediction_set.shared_images(called).members
        calm = [decision_rule.calibrated(each, rule.temperature) for each, rule in zip((one, two), rules, strict=True)]
        patients, terms = image_metadata.patients(one, first.config.data), ("terms",)
        apart = comparison.differences(one, two, patients, parts=("counts", "levels"))
        apart |= comparison.differences(calm[0], calm[1], patients, parts=terms)
        test, (alike, kappa) = comparison.mcnemar(one, two), comparison.agreement(one, two)
        letter = names[other.id][0]
        parts.append(f"<h3>{letter} less A, on the {len(one):,} images that both answered</h3>")
        before, after = (
            metrics.values(each, parts=("counts", "levels")) | metrics.values(shown, parts=terms)
            for each, shown in zip((one, two), calm, strict=True)
        )
        rows = {
            title: {
                "A": _point(name, before[name]),
                letter: _point(name, after[name]),
                f"{letter} less A": formatting.difference(apart[name], share=metrics.is_percentage(name)),
            }
            for name, title in metrics.TITLES.items()
        }
        parts.append(layout.table(pd.DataFrame.from_dict(rows, orient="index")))
        parts.append(
            f"<p>Only A right: {test.first_only:,}; only {letter} right: {test.second_only:,}; McNemar's exact p = {test.p:.3g}, "
            f"{'more than chance' if test.p < 0.05 else 'may be chance'}. Same answer for {alike:.1%}, "
            f"Cohen's kappa {kappa:.2f}.</p>"
        )
    apart_settings = comparison.settings({names[run.id]: run.config for run in found})
    parts.append("<h3>Settings that differ</h3>" + layout.table(apart_settings))
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
        counts = pd.DataFrame(made.counts).T.rename(columns=_title, index=str.capitalize)
        parts.append(layout.table(counts))
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
    parts.insert(1, layout.facts(rows))
    return "\n".join(parts)


def _model_card(run: Run, rule: DecisionRule) -> str:
    rows = {"Network": catalogue.title(run.config.model), "Recipe": run.config.recipe, "State": run.status.state}
    if run.status.ended and run.status.started:
        rows["Trained for"] = f"{run.status.ended - run.status.started:,.0f} s, {run.status.epoch} epochs"
    rows["Device"] = run.status.device or "–"
    try:
        made = workspace.read_json(run.folder / "environment.json")
        packages = made.pop("packages", {})
        rows |= {str(name).replace("_", " ").capitalize(): str(value) for name, value in made.items()}
        rows["Packages"] = ", ".join(f"{name} {version}" for name, version in packages.items())
    except (FileNotFoundError, CxrError):
        rows["Versions"] = "not recorded"
    rows["Temperature"] = f"{rule.temperature:.3f}" if rule.is_calibrated else "none"
    rows["Decision rule"] = rule.describe(_title)
    rows["Confident from"] = formatting.percent(rule.reject_threshold)
    if rule.images:
        rows["Rule fitted on"] = f"{rule.images:,} {' and '.join(_SPLITS[one] for one in rule.splits)} images"
    settings = {name: str(value) for name, value in to_document(run.config).items()}
    return (
        "<h3>Network</h3>"
        + layout.facts(rows)
        + f"<details><summary>All settings</summary><h3>All settings</h3>{layout.settings(settings)}</details>"
    )


def _figures(card: metrics.Metrics) -> pd.DataFrame:
    rows = {
        title: formatting.estimate(card[name], share=metrics.is_percentage(name))
        for name, title in metrics.TITLES.items()
    }
    return pd.DataFrame({"Value (95 % interval)": rows})


def _by_class(said: PredictionSet, card: metrics.Metrics) -> pd.DataFrame:
    rows = {
        _title(name): {
            title: formatting.estimate(card[f"{of}:{name}"], share=metrics.is_percentage(of))
            for of, title in metrics.PER_CLASS.items()
        }
        for name in said.classes
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _point(name: str, value: float) -> str:
    known = value if math.isfinite(value) else None
    return formatting.estimate(metrics.Estimate(known, None, None, ""), share=metrics.is_percentage(name))


def _report(said: PredictionSet) -> pd.DataFrame:
    """As printed by scikit-learn and in the paper: two decimals, what is not defined left empty."""
    table = confusion.classification_report(said.classes, said.confusion)
    shown = table.astype(object)
    for column in ("precision", "recall", "f1-score"):
        shown[column] = [f"{value:.2f}" if math.isfinite(value) else "" for value in table[column]]
    return shown.rename(index=lambda name: _title(name) if name in said.classes else name)


def _groups(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in table.to_dict("records"):
        low, high = 100 * row["difference_low"], 100 * row["difference_high"]
        rows.append(
            {
                "Group": f"{row['trait']}: {_title(row['group']) if row['trait'] == 'True class' else row['group']}",
                "Images": f"{row['n']:,}",
                "Accuracy": f"{formatting.percent(row['accuracy'])} ({formatting.interval((row['low'], row['high']))})",
                "Points from the rest": f"{100 * row['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
                + ("" if low <= 0 <= high else " *"),
                **{
                    f"Recall, {_title(name.removeprefix('recall ')).lower()}": "–" if pd.isna(value) else f"{value:.0%}"
                    for name, value in ((str(name), value) for name, value in row.items())
                    if name.startswith("recall ")
                },
            }
        )
    return pd.DataFrame(rows).set_index("Group")


def _glossary() -> str:
    names = {**metrics.PER_CLASS, **metrics.TITLES}
    meanings = "".join(
        f"<div><dt>{escape(title)}</dt><dd>{escape(metrics.DESCRIPTIONS[name])}</dd></div>"
        for name, title in names.items()
    )
    return f"<h2>What the figures mean</h2><dl>{meanings}</dl>"


def _title(name: str) -> str:
    return {"viral": "Viral pneumonia", "bacterial": "Bacterial pneumonia"}.get(
        name, name.replace("_", " ").capitalize()
    )


def _csv(run: Run, said: PredictionSet, split: str) -> str:
    content = base64.b64encode(csv_export.csv(said.table())).decode()
    return (
        f"<p class=screen><a download='{escape(run.id)}-{escape(split)}.csv' href='data:text/csv;base64,{content}'>"
        f"Predictions of {len(said):,} images as CSV</a>. Under each plot are buttons that save it.</p>"
    )
