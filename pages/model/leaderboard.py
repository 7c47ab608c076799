"""The leaderboard: all runs on any split by any metric, beside the paper and what others published."""

from functools import cache

import pandas as pd
import streamlit as st

from cxr_core import csv_export, formatting
from cxr_core.data import datasets
from cxr_core.errors import CxrError
from cxr_core.evaluation import decision_rule, leaderboard, metrics, paper, plots, reproduction, rule_store
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.models import catalogue
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics, messages, reproduction_panel, run_card, url_state
from pages.ui.theme import dark

CALLING = {"own": "Each model's own", "probable": "Highest probability"}


def standings_table(found: list[Run]) -> None:
    """Any metric on any split, with intervals, and the difference from a pinned row."""
    usable = [run for run in found if run.has_predictions]
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
        figure = url_state.choice("Metric", list(titles), key="figure", titles=titles, width=280)
        split = url_state.choice(
            "Split", ["test", "val", "train"], key="on", kind="split", titles=formatting.SPLITS, width=160
        )
        data = url_state.choice(
            "Dataset",
            _datasets(usable),
            key="board-data",
            address="data",
            titles={"all": "All"},
            width=200,
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
        fixed = leaderboard.published_rows("accuracy", "test")
        pinned = url_state.choice(
            "Baseline",
            ["none", *named, *fixed["name"]],
            key="baseline",
            kind="row",
            titles={"none": "None", **named, **dict(zip(fixed["name"], fixed["name"] + ", published", strict=True))},
            former={"Nothing": "none"}.get,
            help="The differences from it are shown.",
            width=360,
        )
    cards, problems = _cards(
        [run for run in usable if data in ("all", run.config.data) and network in ("all", run.config.model)],
        split, figure, named, calling,
    )  # fmt: skip
    for problem in problems:
        st.warning(problem, icon=":material/error:")
    smaller = figure in metrics.LOWER_IS_BETTER
    parts = [
        leaderboard.published_rows(figure, split),
        leaderboard.run_rows(figure, cards),
        leaderboard.group_rows(figure, cards),
    ]
    table = leaderboard.ranked(parts, smaller_is_better=smaller)
    if table.empty:
        st.caption("No run has this metric on this split.")
        return
    _shown(table, titles[figure], figure, split, usable, pinned, calling)


def _datasets(usable: list[Run]) -> list[str]:
    """One dataset at a time, real X-rays first, since figures of different images say little of one another; then all."""
    drawn = {one.name for one in datasets.list_datasets() if one.synthetic}
    return [*sorted(dict.fromkeys(run.config.data for run in usable), key=drawn.__contains__), "all"]


def _rule(run: Run, calling: str) -> DecisionRule | None:
    """The rule by which a run's images are called; None: the highest probability.

    Raises:
        WorkFailed: its file is damaged.
    """
    return rule_store.saved(run.id) if calling == "own" else None


def _cards(usable: list[Run], split: str, figure: str, named: dict[str, str], calling: str) -> tuple[list, list[str]]:
    """Run, title, figures and images of each that has the split; and what could not be read."""
    cards, problems = [], []
    for run in usable:
        if split not in run.metrics:
            continue
        try:
            rule = _rule(run, calling)
            if quick := cached_metrics.share_of(run, split, figure, rule):
                cards.append((run, named[run.id], {figure: quick[0]}, quick[1]))
                continue
            card = cached_metrics.metrics_of(run, split, metrics.parts_of(figure), rule=rule)
            cards.append((run, named[run.id], card, len(cached_metrics.prediction_set_of(run, split))))
        except (CxrError, OSError) as error:
            problems.append(f"**{named[run.id]}**: {error}")
    return cards, problems


def _shown(
    table: pd.DataFrame, title: str, figure: str, split: str, usable: list[Run], pinned: str, calling: str
) -> None:
    drawn = {one.name for one in datasets.list_datasets() if one.synthetic}
    share = metrics.is_percentage(figure)
    by_id = {run.id: run for run in usable}
    table["data"] = [f"{one} (synthetic)" if one in drawn else one for one in table["data"]]
    said = [
        formatting.estimate(
            metrics.Estimate(row.value, *((row.low, row.high) if pd.notna(row.low) else (None, None)), ""), share=share
        )
        for row in table.itertuples()
    ]
    table["told"] = said
    st.caption(
        metrics.DESCRIPTIONS[figure.split(":", maxsplit=1)[0]]
        + (" Lower is better." if figure in metrics.LOWER_IS_BETTER else "")
    )
    if pinned != "none":
        official = _official(usable, split)
        rows = table.itertuples()
        table["difference"] = [
            _difference(by_id, table, row, figure, split, pinned, share, official, calling) for row in rows
        ]
    table["rule"] = [_rule_words(by_id.get(run_id), calling) for run_id in table["run"]]
    plotted = pd.DataFrame(
        {
            "name": [
                f"{place}. {row.name}{', synthetic' if row.data.endswith('(synthetic)') else ''}"
                for place, row in enumerate(table.itertuples(), start=1)
            ],
            "value": table["value"],
            "low": table["low"],
            "high": table["high"],
            "mark": table["origin"]
            .map({"This workbench": 0, "Ensemble": 1, "Group of runs": 2, "Paper, Table 4.1": 3})
            .fillna(4),
            "hover": [f"{row.name}, {row.origin}: {row.told}" for row in table.itertuples()],
        }
    )
    st.plotly_chart(
        plots.forest(plotted.head(40), title=f"{title} with its 95 % interval", share=share, dark=dark()),
        config=plots.config(f"leaderboard-{figure}-{split}"),
        key="standings-plot",
        alt="; ".join(plotted["hover"].head(40)),
    )
    st.dataframe(
        table,
        hide_index=True,
        column_order=[
            "name",
            "told",
            *(["difference"] if pinned != "none" else []),
            "origin",
            "data",
            "recipe",
            "n",
            "note",
            "rule",
            "run",
        ],
        column_config={
            "name": "Name",
            "origin": "Source",
            "data": "Data",
            "recipe": "Recipe",
            "told": f"{title} (95 % interval)",
            "difference": st.column_config.TextColumn(
                "Difference (95 % interval)",
                help="From a run: on the images that both answered, by paired bootstrap. "
                "From a published row, whose single predictions are not known: Newcombe's interval, for accuracies.",
            ),
            "n": "Images",
            "note": st.column_config.TextColumn(
                "Interval",
                help="How the 95 % interval was computed. Of a group of three or more runs it is that of their mean: "
                "it knows the spread between seeds or folds, not the chance of which images were in the split. Of two runs "
                "their values are given instead.",
            ),
            "rule": st.column_config.TextColumn("Decision rule", help="How probabilities become a class."),
            "run": "Run",
        },
        key="standings",
        alt=f"{title} of runs and published results",
    )
    st.caption(
        "Circle: a run here; diamond: an ensemble; square: the mean of a group of runs, its line that mean's t interval; "
        "triangle: the paper; cross: published by others. Metrics of different data cannot be compared; the published rows "
        "are of the official test split of 624 images."
    )
    st.download_button(
        "Table as CSV", lambda: csv_export.csv(table.drop(columns="told")), f"leaderboard-{figure}-{split}.csv", "text/csv",
        icon=":material/table:", key="standings-csv", on_click="ignore",
    )  # fmt: skip
    messages.save_plot_hint()


def _difference(
    by_id: dict[str, Run],
    table: pd.DataFrame,
    row: object,
    figure: str,
    split: str,
    pinned: str,
    share: bool,
    official: set[str],
    calling: str,
) -> str:
    if pinned in (row.run, row.name) and row.origin != "Group of runs":
        return "baseline"
    try:
        if pinned in by_id and row.run in by_id:
            pair = [(run, _rule(run, calling)) for run in (by_id[pinned], by_id[row.run])]
            one = cached_metrics.difference_of(*pair, split, figure)
        else:
            base = table[(table["run"] == pinned) | ((table["run"] == "") & (table["name"] == pinned))]
            if not len(base):
                return "–"
            both = {row.data, base["data"].iloc[0]}
            if len(both) > 1 and not both <= official:
                return "other images"
            one = leaderboard.unpaired_difference(
                figure if row.origin != "Group of runs" else "", row.value, row.n, *base.iloc[0][["value", "n"]]
            )
    except (CxrError, OSError) as error:
        return str(error).split(".")[0]
    return formatting.difference(one, share=share)


def _rule_words(run: Run | None, calling: str) -> str:
    """How the images of a row were called; empty for groups and published rows, of which it is not known."""
    if run is None:
        return ""
    rule = _rule(run, calling)
    return formatting.decision_rule(rule) if rule else decision_rule.HIGHEST_PROBABILITY


def _official(usable: list[Run], split: str) -> set[str]:
    """What the rows of the published figures call their images, and datasets with those images, by their counts."""
    return {"official set"} | {
        run.config.data
        for run in usable
        if split in run.metrics
        and {name: one["support"] for name, one in run.metrics[split]["per_class"].items()} == paper.SUPPORTS.get(split)
    }


def all_runs(found: list[Run]) -> None:
    st.subheader("All runs beside the paper's Table 4.1", anchor=False)
    table = leaderboard.accuracy_table(found)
    table["test_range"] = [
        formatting.interval((low, high)) if pd.notna(low) else ""
        for low, high in zip(table["test_low"], table["test_high"], strict=True)
    ]
    drawn = {one.name for one in datasets.list_datasets() if one.synthetic}
    compare_images = cache(reproduction.image_differences)
    differences = {run.id: reproduction.differences(run, compare_images) for run in found}
    table["differs"] = ["; ".join(differences.get(run_id) or []) for run_id in table["run"]]
    table["data"] = [f"{one} (synthetic)" if one in drawn else one for one in table["data"]]
    table["origin"] = table["origin"].map({"paper": "Paper, Table 4.1", "run": "This workbench"})
    table[["train", "test", "val"]] = table[["train", "test", "val"]].astype(float) * 100
    share = {"format": "%.1f %%"}
    st.dataframe(
        table,
        hide_index=True,
        column_order=[
            "model",
            "origin",
            "data",
            "recipe",
            "epochs",
            "train",
            "test",
            "test_range",
            "val",
            "macro_f1",
            "differs",
            "run",
        ],
        column_config={
            "model": "Model",
            "origin": "Source",
            "data": "Data",
            "recipe": "Recipe",
            "epochs": "Epochs",
            "train": st.column_config.NumberColumn("Train accuracy", **share),
            "test": st.column_config.NumberColumn("Test accuracy", **share),
            "test_range": st.column_config.TextColumn("95 % interval", help="Of the test accuracy (Wilson)."),
            "val": st.column_config.NumberColumn("Val accuracy", **share),
            "macro_f1": st.column_config.NumberColumn("Macro F1 (test)", format="%.2f"),
            "differs": st.column_config.TextColumn(
                "Differs from the paper in", help="Empty: one of its trainings repeated, or another network."
            ),
            "run": "Run",
        },
        key="leaderboard",
        placeholder="–",
        alt="Accuracies of the paper's models and of all runs",
    )
    st.caption(
        "Metrics of different data cannot be compared: only runs on the paper's set with its official split stand beside the "
        "paper's rows. All by highest probability. The paper's validation accuracies are of 16 images."
    )


st.title("Leaderboard", anchor=False)
messages.paper_citation()
found = runs.list_runs()
if any(run.has_predictions for run in found):
    messages.disclaimer()
    for name in sorted({run.config.data for run in found if run.has_predictions}):
        messages.synthetic_mark(name)
standings_table(found)
with st.expander("Accuracies of all splits side by side"):
    all_runs(found)
reproduction_panel.show()
