"""Section of the report on one run: its metrics, plots, results by group, data and settings."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from cxr_core import csv_export, formatting, workspace
from cxr_core.data import audit, datasets, manifest
from cxr_core.errors import CxrError
from cxr_core.evaluation import (
    calibration,
    confusion,
    decision_metrics,
    decision_rule,
    image_metadata,
    intervals,
    metrics,
    plots,
    rule_store,
    subgroups,
)
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.models import catalogue
from cxr_core.runs import run_store as runs
from cxr_core.runs.config import to_document
from cxr_core.runs.run_store import Run


def context(run: Run, predictions: PredictionSet, split: str, number: int) -> dict[str, Any]:
    """The values of run.html.j2.

    Args:
        predictions: of the network itself on the split; images are called by the run's decision rule.
        number: of the run in the report, from 0.
    """
    metadata = image_metadata.read(predictions, run.config.data)
    patients = None if metadata is None else metadata["patient"]
    rule = rule_store.of_run_or_default(run.id)
    decided = decision_rule.decided(predictions, rule)
    calibrated = decision_rule.calibrated(decided, rule.temperature)
    estimates = metrics.estimate(decided, patients, parts=("counts", "levels"))
    estimates |= metrics.estimate(calibrated, patients, parts=("terms",))
    titles = {name: formatting.class_title(name) for name in predictions.classes}
    reliability = {"Uncalibrated": calibration.reliability(decided.confidence, decided.correct)}
    if rule.is_calibrated:
        after = calibration.reliability(calibrated.confidence, calibrated.correct)
        reliability[f"After temperature {rule.temperature:.2f}"] = after
    data, counts = _data(run)
    content = csv_export.csv(predictions.table())
    return {
        "number": number,
        "id": run.id,
        "name": run.name or catalogue.title(run.config.model),
        "images": len(predictions),
        "rule": rule.describe(formatting.class_title),
        "notice": rule.notice,
        "metrics": _metrics(estimates),
        "per_class": _per_class(titles, estimates),
        "method": estimates["macro_f1"].method,
        "confusion": pd.DataFrame(decided.confusion, index=list(titles.values()), columns=list(titles.values())),
        "report": _classification_report(decided, titles),
        "decision": _decision(predictions, rule),
        "reject_threshold": formatting.percent(rule.reject_threshold),
        "highest_probability": _accuracy(predictions) if rule.threshold is not None else "",
        "plots": _plots(run, decided, titles, reliability, f"{run.id}-{split}-{number}"),
        "reliability": calibration.reliability_table(reliability).set_index("Version"),
        "subgroups": None if metadata is None else _subgroups(subgroups.subgroup_table(decided, metadata)),
        "data": data,
        "counts": counts,
        "network": _network(run, rule),
        "settings": {name: str(value) for name, value in to_document(run.config).items()},
        "csv_name": f"{run.id}-{split}.csv",
        "csv": base64.b64encode(content).decode(),
    }


def _metrics(estimates: metrics.Metrics) -> pd.DataFrame:
    rows = {
        title: formatting.estimate(estimates[name], share=metrics.is_percentage(name))
        for name, title in metrics.TITLES.items()
    }
    return pd.DataFrame({"Value (95 % interval)": rows})


def _per_class(titles: Mapping[str, str], estimates: metrics.Metrics) -> pd.DataFrame:
    rows = {
        title: {
            heading: formatting.estimate(estimates[f"{metric}:{name}"], share=metrics.is_percentage(metric))
            for metric, heading in metrics.PER_CLASS.items()
        }
        for name, title in titles.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _classification_report(predictions: PredictionSet, titles: Mapping[str, str]) -> pd.DataFrame:
    """As scikit-learn prints it: two decimals, what is not defined left empty."""
    table = confusion.classification_report(predictions.classes, predictions.confusion).astype(object)
    for column in ("precision", "recall", "f1-score"):
        table[column] = [f"{value:.2f}" if math.isfinite(value) else "" for value in table[column]]
    return table.rename(index=dict(titles))


def _decision(predictions: PredictionSet, rule: DecisionRule) -> pd.DataFrame:
    """Table of the decision rule: which answers are confident, and what those are worth."""
    document = decision_metrics.document(predictions, rule)
    shares = {title: document[name] for name, title in decision_metrics.TITLES.items()}
    rows = {
        title: f"{formatting.percent(share['value'])} ({formatting.interval(share['ci95'])}), "
        f"{share['count']:,} of {share['of']:,}"
        for title, share in shares.items()
        if share["value"] is not None
    }
    return pd.DataFrame({"Value (95 % interval)": rows})


def _accuracy(predictions: PredictionSet) -> str:
    correct, n = int(predictions.correct.sum()), len(predictions)
    return f"{formatting.percent(correct / n)} ({formatting.interval(intervals.wilson(correct, n))})"


def _plots(
    run: Run,
    predictions: PredictionSet,
    titles: Mapping[str, str],
    reliability: Mapping[str, pd.DataFrame],
    name: str,
) -> list[dict[str, Any]]:
    figures = {"Confusion matrix": plots.confusion_matrix(predictions.confusion.tolist(), list(titles.values()))}
    rocs, recalls = plots.class_curves(predictions, titles)
    if rocs:
        figures["ROC, each class against the rest"] = plots.roc(rocs)
        figures["Precision and recall, each class against the rest"] = plots.precision_recall(recalls)
    present = [(code, name) for code, name in enumerate(predictions.classes) if predictions.support[code]]
    shades = [plots.class_colour(name, code) for code, name in present]
    for code, title in enumerate(titles.values()):
        score = predictions.probabilities[:, code]
        by_true = {titles[name]: score[predictions.true == true] for true, name in present}
        figures[f"Probability of {title.lower()}, by true class"] = plots.score_distributions(by_true, shades, title="")
    figures["Reliability diagram"] = plots.reliability(reliability)
    history = runs.history(run.id)
    if len(history):
        best = runs.best_epoch(history, run.config.keep)
        figures["Learning curves"] = plots.learning_curves(history, best_epoch=best)
    return [_plot(title, figure, f"{name}-{number}") for number, (title, figure) in enumerate(figures.items())]


def _plot(title: str, figure: go.Figure, name: str) -> dict[str, Any]:
    """A plot under its title, saved as `<title>-<name>`."""
    short = title.split(",", maxsplit=1)[0].lower()
    figure.update_layout(paper_bgcolor="#ffffff", plot_bgcolor="#ffffff")
    return {
        "title": title,
        "id": "".join(letter if letter.isalnum() else "-" for letter in f"{short}-{name}"),
        "figure": json.loads(figure.to_json()),
        "config": {**plots.CONFIG, "displayModeBar": False},
    }


def _subgroups(table: pd.DataFrame) -> pd.DataFrame | None:
    rows = []
    for row in table.to_dict("records"):
        low, high = 100 * row["difference_low"], 100 * row["difference_high"]
        group = formatting.class_title(row["group"]) if row["trait"] == "True class" else row["group"]
        cells = {
            "Group": f"{row['trait']}: {group}",
            "Images": f"{row['n']:,}",
            "Accuracy": f"{formatting.percent(row['accuracy'])} ({formatting.interval((row['low'], row['high']))})",
            "Points from the rest": f"{100 * row['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
            + ("" if low <= 0 <= high else " *"),
        }
        for column in table.columns[table.columns.str.startswith("recall ")]:
            title = formatting.class_title(column.removeprefix("recall ")).lower()
            cells[f"Recall, {title}"] = "–" if pd.isna(row[column]) else f"{row[column]:.0%}"
        rows.append(cells)
    return pd.DataFrame(rows).set_index("Group") if rows else None


def _data(run: Run) -> tuple[dict[str, str], pd.DataFrame | None]:
    """Facts of the dataset and manifest, and images per split and class; what is gone is said so."""
    facts, counts = {"Dataset": run.config.data, "Manifest": run.config.manifest}, None
    try:
        dataset = datasets.get(run.config.data)
        facts |= {"Origin": dataset.origin, "Citation": dataset.citation or "–", "Images": f"{dataset.images:,}"}
        facts["Patients"] = f"{dataset.patients:,}"
        if dataset.synthetic:
            facts["Synthetic"] = "yes: drawn, not photographed"
        frozen = manifest.get(run.config.data, run.config.manifest)
        facts |= {"Splits": manifest.SPLIT_RULES[frozen.split], "Balance": frozen.balance, "Seed": str(frozen.seed)}
        facts["Excluded, relabelled"] = f"{frozen.excluded:,}, {frozen.relabelled:,}"
        counts = pd.DataFrame(frozen.counts).T.rename(columns=formatting.class_title, index=str.capitalize)
        if (report := audit.latest(run.config.data)) is not None:
            findings = [f"{finding.title.lower()}: {finding.images:,} images" for finding in report.findings]
            shortcuts = [
                f"{each.trait} tells {each.label} in {each.split} (area {each.auc:.2f})" for each in report.shortcuts
            ]
            facts |= {"Audit found": "; ".join(findings) or "nothing", "Shortcuts": "; ".join(shortcuts) or "none"}
    except CxrError:
        facts["Note"] = "Not all of it is on this machine."
    return facts, counts


def _network(run: Run, rule: DecisionRule) -> dict[str, str]:
    facts = {"Network": catalogue.title(run.config.model), "Recipe": run.config.recipe, "State": run.status.state}
    if run.status.ended and run.status.started:
        facts["Trained for"] = f"{run.status.ended - run.status.started:,.0f} s, {run.status.epoch} epochs"
    facts["Device"] = run.status.device or "–"
    try:
        environment = dict(workspace.read_json(run.folder / "environment.json"))
        packages = dict(environment.pop("packages", {}))
        facts |= {str(name).replace("_", " ").capitalize(): str(value) for name, value in environment.items()}
        facts["Packages"] = ", ".join(f"{name} {version}" for name, version in packages.items())
    except (FileNotFoundError, CxrError, TypeError, ValueError):
        facts["Versions"] = "not recorded, or damaged"
    facts["Temperature"] = f"{rule.temperature:.3f}" if rule.is_calibrated else "none"
    facts["Decision rule"] = rule.describe(formatting.class_title)
    facts["Confident from"] = formatting.percent(rule.reject_threshold)
    if rule.images:
        splits = " and ".join(formatting.split_title(split).lower() for split in rule.splits)
        facts["Rule fitted on"] = f"{rule.images:,} images: {splits}"
    return facts
