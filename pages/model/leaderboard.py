"""The leaderboard: all runs on any split by any metric, beside the paper and what others published."""

from functools import cache
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from cxr_core import csv_export, formatting
from cxr_core.data import datasets
from cxr_core.errors import CxrError, sentence
from cxr_core.evaluation import decision_rule, leaderboard, metrics, paper, plots, reproduction, rule_store
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.models import catalogue
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics, messages, reproduction_panel, run_card, url_state
from pages.ui.theme import dark

CALLING = {"own": "Each model's own", "probable": "Highest probability"}
GROUP = "Group of runs"
Columns = dict[str, str | ColumnConfig]
Row = dict[Any, Any]  # of `leaderboard.COLUMNS`, as pandas types it


def standings_table(usable: list[Run]) -> None:
    """Any metric on any split, with intervals, and the difference from a pinned row."""
    classes = list(dict.fromkeys(name for run in usable for name in run.config.classes)) or list(paper.CLASSES)
    titles = {
        **metrics.TITLES,
        **{
            f"{of}:{label}": f"{title}, {formatting.class_title(label).lower()}"
            for of, title in metrics.PER_CLASS.items()
            for label in classes
        },
    }
    named = run_card.titles(usable)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = url_state.choice("Metric", list(titles), key="figure", titles=titles, width=280)
        split = url_state.choice(
            "Split", ["test", "val", "train"], key="on", kind="split", titles=formatting.SPLITS, width=160
        )
        data = url_state.choice(
            "Dataset", _datasets(usable), key="board-data", address="data", titles={"all": "All"}, width=200
        )
        network = url_state.choice(
            "Architecture",
            ["all", *dict.fromkeys(run.config.model for run in usable)],
            key="network",
            kind="architecture",
            titles={"all": "All", **{run.config.model: catalogue.title(run.config.model) for run in usable}},
            width=200,
        )
        calling = url_state.choice(
            "Decision rule", list(CALLING), key="calling", kind="decision rule", titles=CALLING, width=200
        )
        published = leaderboard.published_rows("accuracy", "test")["name"]
        pinned = url_state.choice(
            "Baseline",
            ["none", *named, *published],
            key="baseline",
            kind="row",
            titles={"none": "None", **named, **{name: f"{name}, published" for name in published}},
            former={"Nothing": "none"}.get,
            help="The differences from it are shown.",
            width=360,
        )
    entries, problems = _entries(
        [run for run in usable if data in ("all", run.config.data) and network in ("all", run.config.model)],
        split, metric, named, calling,
    )  # fmt: skip
    for problem in problems:
        st.warning(formatting.verbatim(problem), icon=":material/error:")
    smaller = metric in metrics.LOWER_IS_BETTER
    parts = [
        leaderboard.published_rows(metric, split),
        leaderboard.run_rows(metric, entries),
        leaderboard.group_rows(metric, entries),
    ]
    table = leaderboard.ranked(parts, smaller_is_better=smaller)
    if table.empty:
        st.caption("No run has this metric on this split.")
        return
    _shown(table, titles[metric], metric, split, usable, pinned, calling)


def _datasets(usable: list[Run]) -> list[str]:
    """The datasets of the runs, real X-rays first, then "all": metrics of different images cannot be compared."""
    return [*sorted(dict.fromkeys(run.config.data for run in usable), key=_synthetic().__contains__), "all"]


def _synthetic() -> set[str]:
    return {dataset.name for dataset in datasets.list_datasets() if dataset.synthetic}


def _marked(names: pd.Series) -> list[str]:
    """Names of datasets; synthetic ones are marked."""
    synthetic = _synthetic()
    return [f"{name} (synthetic)" if name in synthetic else name for name in names]


def _rule(run: Run, calling: str) -> DecisionRule | None:
    """The rule by which a run's classes are predicted; None: the highest probability.

    Raises:
        WorkFailed: its file is damaged.
    """
    return rule_store.saved(run.id) if calling == "own" else None


def _entries(
    usable: list[Run], split: str, metric: str, named: dict[str, str], calling: str
) -> tuple[list[leaderboard.Entry], list[str]]:
    """Entries of the runs that have the split, and sentences about those that cannot be read."""
    entries: list[leaderboard.Entry] = []
    problems = []
    for run in usable:
        if split not in run.metrics:
            continue
        try:
            rule = _rule(run, calling)
            if share := cached_metrics.share_of(run, split, metric, rule):
                entries.append((run, named[run.id], {metric: share[0]}, share[1]))
                continue
            estimates = cached_metrics.metrics_of(run, split, metrics.parts_of(metric), rule=rule)
            entries.append((run, named[run.id], estimates, len(cached_metrics.prediction_set_of(run, split))))
        except (CxrError, OSError) as error:
            problems.append(f"{named[run.id]}: {error}")
    return entries, problems


def _shown(
    table: pd.DataFrame, title: str, metric: str, split: str, usable: list[Run], pinned: str, calling: str
) -> None:
    share = metrics.is_percentage(metric)
    by_id = {run.id: run for run in usable}
    table["data"] = _marked(table["data"])
    table["estimate"] = [_estimate(row, share=share) for row in table.to_dict("records")]
    st.caption(
        metrics.DESCRIPTIONS[metric.split(":", maxsplit=1)[0]]
        + (" Lower is better." if metric in metrics.LOWER_IS_BETTER else "")
    )
    if pinned != "none":
        rows = table.to_dict("records")
        baseline = next((row for row in rows if pinned == (row["run"] or row["name"])), None)
        official = _official(usable, split)
        table["difference"] = [
            _difference(by_id, row, baseline, pinned, metric, split, official, calling) for row in rows
        ]
    table["rule"] = [_rule_words(by_id.get(run_id), calling) for run_id in table["run"]]
    plotted = pd.DataFrame(
        {
            "name": [
                f"{rank}. {name}{', synthetic' if data.endswith('(synthetic)') else ''}"
                for rank, (name, data) in enumerate(zip(table["name"], table["data"], strict=True), start=1)
            ],
            "value": table["value"],
            "low": table["low"],
            "high": table["high"],
            "mark": table["origin"]
            .map({"This workbench": 0, "Ensemble": 1, GROUP: 2, "Paper, Table 4.1": 3})
            .fillna(4),
            "hover": table["name"] + ", " + table["origin"] + ": " + table["estimate"],
        }
    )
    st.plotly_chart(
        plots.forest(plotted.head(40), title=f"{title} with its 95 % interval", share=share, dark=dark()),
        config=plots.config(f"leaderboard-{metric}-{split}"),
        key="standings-plot",
        alt="; ".join(plotted["hover"].head(40)),
    )
    difference = st.column_config.TextColumn(
        "Difference (95 % interval)",
        help="From a run: on the images that both answered, by paired bootstrap. "
        "From a published row, whose single predictions are not known: Newcombe's interval, for accuracies.",
    )
    note = st.column_config.TextColumn(
        "Interval",
        help="How the 95 % interval was computed. Of a group of three or more runs it is that of their mean: "
        "it knows the spread between seeds or folds, not the chance of which images were in the split. Of two runs "
        "their values are given instead.",
    )
    columns: Columns = {
        "name": "Name",
        "estimate": f"{title} (95 % interval)",
        **({"difference": difference} if pinned != "none" else {}),
        "origin": "Source",
        "data": "Data",
        "recipe": "Recipe",
        "n": "Images",
        "note": note,
        "rule": st.column_config.TextColumn("Decision rule", help="How probabilities become a class."),
        "run": "Run",
    }
    st.dataframe(
        table[list(columns)], hide_index=True, column_config=columns, key="standings",
        alt=f"{title} of runs and published results",
    )  # fmt: skip
    st.caption(
        "Circle: a run here; diamond: an ensemble; square: the mean of a group of runs, its line that mean's t interval; "
        "triangle: the paper; cross: published by others. Metrics of different data cannot be compared; the published rows "
        "are of the official test split of 624 images."
    )
    st.download_button(
        "Table as CSV", lambda: csv_export.csv(table.drop(columns="estimate")), f"leaderboard-{metric}-{split}.csv", "text/csv",
        icon=":material/table:", key="standings-csv", on_click="ignore",
    )  # fmt: skip
    messages.save_plot_hint()


def _estimate(row: Row, *, share: bool) -> str:
    low: float | None = None if pd.isna(row["low"]) else row["low"]
    high: float | None = None if pd.isna(row["high"]) else row["high"]
    return formatting.estimate(metrics.Estimate(row["value"], low, high, ""), share=share)


def _difference(
    by_id: dict[str, Run],
    row: Row,
    baseline: Row | None,
    pinned: str,
    metric: str,
    split: str,
    official: set[str],
    calling: str,
) -> str:
    """The difference of a row from the pinned one, whose row `baseline` is None if it has no such metric."""
    if row is baseline:
        return "baseline"
    try:
        if pinned in by_id and row["run"] in by_id:
            first, second = ((run, _rule(run, calling)) for run in (by_id[pinned], by_id[row["run"]]))
            difference = cached_metrics.difference_of(first, second, split, metric)
        else:
            if baseline is None:
                return "–"
            data = {row["data"], baseline["data"]}
            if len(data) > 1 and not data <= official:
                return "other images"
            counted = metric if row["origin"] != GROUP else ""
            difference = leaderboard.unpaired_difference(
                counted, row["value"], row["n"], baseline["value"], baseline["n"]
            )
    except (CxrError, OSError) as error:
        return sentence(error).split(".")[0]
    return formatting.difference(difference, share=metrics.is_percentage(metric))


def _rule_words(run: Run | None, calling: str) -> str:
    """The decision rule of a row; empty for groups and published rows, of which it is not known."""
    if run is None:
        return ""
    if calling != "own":
        return decision_rule.HIGHEST_PROBABILITY
    return formatting.decision_rule(cached_metrics.rule_of(run))


def _official(usable: list[Run], split: str) -> set[str]:
    """The `data` of published rows, and of runs on the same images, by their counts."""
    return {"official set"} | {
        run.config.data
        for run in usable
        if split in run.metrics
        and {name: row["support"] for name, row in run.metrics[split]["per_class"].items()} == paper.SUPPORTS.get(split)
    }


def all_runs(usable: list[Run]) -> None:
    st.subheader("All runs beside the paper's Table 4.1", anchor=False)
    table = leaderboard.accuracy_table(usable)
    table["test_range"] = [
        formatting.interval((low, high)) if pd.notna(low) else ""
        for low, high in zip(table["test_low"], table["test_high"], strict=True)
    ]
    compare_images = cache(reproduction.image_differences)
    differences = {run.id: reproduction.differences(run, compare_images) for run in usable}
    table["differs"] = ["; ".join(differences.get(run_id) or []) for run_id in table["run"]]
    table["data"] = _marked(table["data"])
    table["origin"] = table["origin"].map({"paper": "Paper, Table 4.1", "run": "This workbench"})
    table[["train", "test", "val"]] = table[["train", "test", "val"]].astype(float) * 100
    differs = "Empty: one of its trainings repeated, or another network."
    columns: Columns = {
        "model": "Model",
        "origin": "Source",
        "data": "Data",
        "recipe": "Recipe",
        "epochs": "Epochs",
        "train": st.column_config.NumberColumn("Train accuracy", format="%.1f %%"),
        "test": st.column_config.NumberColumn("Test accuracy", format="%.1f %%"),
        "test_range": st.column_config.TextColumn("95 % interval", help="Of the test accuracy (Wilson)."),
        "val": st.column_config.NumberColumn("Val accuracy", format="%.1f %%"),
        "macro_f1": st.column_config.NumberColumn("Macro F1 (test)", format="%.2f"),
        "differs": st.column_config.TextColumn("Differs from the paper in", help=differs),
        "run": "Run",
    }
    st.dataframe(
        table[list(columns)], hide_index=True, column_config=columns, key="leaderboard", placeholder="–",
        alt="Accuracies of the paper's models and of all runs",
    )  # fmt: skip
    st.caption(
        "Metrics of different data cannot be compared: only runs on the paper's set with its official split stand beside the "
        "paper's rows. All by highest probability. The paper's validation accuracies are of 16 images."
    )


st.title("Leaderboard", anchor=False)
messages.paper_citation()
usable = [run for run in runs.list_runs() if run.has_predictions]
if usable:
    messages.disclaimer()
    for name in sorted({run.config.data for run in usable}):
        messages.synthetic_mark(name)
standings_table(usable)
with st.expander("Accuracies of all splits side by side"):
    all_runs(usable)
reproduction_panel.show()
