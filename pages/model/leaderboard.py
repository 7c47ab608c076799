"""The leaderboard: all runs on any split by any figure, beside the paper and what others published."""

import pandas as pd
import streamlit as st

from cxr_core.data import datasets
from cxr_core.errors import CxrError
from cxr_core.evaluation import charts, figures, leaderboard, paper, reproduction, scorecard, standings
from cxr_core.jobs import reproduce
from cxr_core.models import catalogue
from cxr_core.runs import folder as runs
from cxr_core.runs.folder import Run
from cxr_core.runs.status import ENDED
from pages.ui import choose, evaluations, notices, run_card, words
from pages.ui.theme import dark


def standings_table(found: list[Run]) -> None:
    """Any figure on any split, with intervals, and the difference from a pinned row."""
    usable = [run for run in found if run.usable]
    classes = list(dict.fromkeys(name for run in usable for name in run.config.classes)) or list(paper.CLASSES)
    titles = {
        **scorecard.TITLES,
        **{
            f"{of}:{label}": f"{title}, {words.label(label).lower()}"
            for of, title in scorecard.OF_CLASS.items()
            for label in classes
        },
    }
    named = run_card.titles(usable)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        figure = choose.addressed("Figure", list(titles), key="figure", kind="figure", titles=titles, width=280)
        split = choose.addressed(
            "Images", ["test", "val", "train"], key="on", kind="split", titles=words.SPLITS, width=160
        )
        data = choose.addressed(
            "Dataset",
            ["all", *dict.fromkeys(run.config.data for run in usable)],
            key="data",
            kind="dataset",
            titles={"all": "All"},
            width=200,
        )
        pinned = choose.addressed(
            "Differences from",
            ["none", *named],
            key="baseline",
            kind="run",
            titles={"none": "Nothing", **named},
            width=360,
        )
    cards, problems = _cards([run for run in usable if data in ("all", run.config.data)], split, figure, named)
    for problem in problems:
        st.warning(problem, icon=":material/error:")
    smaller = figure in scorecard.SMALLER_IS_BETTER
    parts = [standings.published(figure, split), standings.of_runs(figure, cards), standings.of_groups(figure, cards)]
    table = standings.ranked(parts, smaller_is_better=smaller)
    if table.empty:
        st.caption("Nobody has this figure on these images.")
        return
    _shown(table, titles[figure], figure, split, usable, pinned)


def _cards(usable: list[Run], split: str, figure: str, named: dict[str, str]) -> tuple[list, list[str]]:
    """Run, title, figures and images of each that has the split; and what could not be read."""
    cards, problems = [], []
    for run in usable:
        if split not in run.metrics:
            continue
        if quick := standings.quick(run.metrics[split], figure):
            value, low, high, n = quick
            cards.append((run, named[run.id], {figure: scorecard.Figure(value, low, high, scorecard.WILSON)}, n))
            continue
        try:
            scores = figure.split(":", maxsplit=1)[0] not in ("macro_f1", "balanced_accuracy", "f1")
            card = evaluations.card_of(run, split, scores=scores)
            cards.append((run, named[run.id], card, len(evaluations.answers_of(run, split))))
        except (CxrError, OSError) as error:
            problems.append(f"**{named[run.id]}**: {error}")
    return cards, problems


def _shown(table: pd.DataFrame, title: str, figure: str, split: str, usable: list[Run], pinned: str) -> None:
    drawn = {one.name for one in datasets.every() if one.synthetic}
    share = figure.split(":", maxsplit=1)[0] not in ("brier", "log_loss")
    by_id = {run.id: run for run in usable}
    table["data"] = [f"{one} (synthetic)" if one in drawn else one for one in table["data"]]
    said = [
        words.figure(
            scorecard.Figure(row.value, *((row.low, row.high) if pd.notna(row.low) else (None, None)), ""), share=share
        )
        for row in table.itertuples()
    ]
    table["told"] = said
    table["difference"] = [_difference(by_id, row, figure, split, pinned, share) for row in table.itertuples()]
    plotted = pd.DataFrame(
        {
            "name": [f"{place}. {name}" for place, name in enumerate(table["name"], start=1)],
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
        charts.forest(plotted.head(40), title=f"{title}, 95 % interval", share=share, dark=dark()),
        config=figures.CONFIG,
        key="standings-plot",
        alt="; ".join(plotted["hover"].head(40)),
    )
    st.dataframe(
        table,
        hide_index=True,
        column_order=[
            "name",
            "origin",
            "data",
            "recipe",
            "told",
            *(["difference"] if pinned != "none" else []),
            "n",
            "note",
            "run",
        ],
        column_config={
            "name": "Name",
            "origin": "Source",
            "data": "Data",
            "recipe": "Recipe",
            "told": f"{title} (95 % interval)",
            "difference": st.column_config.TextColumn(
                "Difference (95 % interval)", help="On the images that both answered; paired bootstrap."
            ),
            "n": "Images",
            "note": st.column_config.TextColumn(
                "Interval", help="Of groups: mean and one standard deviation between its runs."
            ),
            "run": "Run",
        },
        key="standings",
        alt=f"{title} of runs and published results",
    )
    st.caption(
        "Circle: a run here; diamond: an ensemble; square: a group; triangle: the paper; cross: published by others. Figures of "
        "different data cannot be compared; the published rows are of the official test split of 624 images."
    )


def _difference(by_id: dict[str, Run], row: object, figure: str, split: str, pinned: str, share: bool) -> str:
    if pinned == "none" or pinned not in by_id or row.run == pinned or row.run not in by_id:
        return "baseline" if row.run and row.run == pinned else "–"
    try:
        scores = figure.split(":", maxsplit=1)[0] not in (
            "accuracy",
            "recall",
            "precision",
            "macro_f1",
            "balanced_accuracy",
            "f1",
        )
        one = evaluations.differences_of(by_id[pinned], by_id[row.run], split, scores=scores)[figure]
    except (CxrError, OSError) as error:
        return str(error).split(".")[0]
    return words.apart(one, share=share)


def all_runs(found: list[Run]) -> None:
    st.subheader("All runs beside the paper's Table 4.1", anchor=False)
    table = leaderboard.leaderboard(found)
    table["test_range"] = [
        words.interval((low, high)) if pd.notna(low) else ""
        for low, high in zip(table["test_low"], table["test_high"], strict=True)
    ]
    drawn = {one.name for one in datasets.every() if one.synthetic}
    table["data"] = [f"{one} (synthetic)" if one in drawn else one for one in table["data"]]
    table["origin"] = table["origin"].map({"paper": "Paper, Table 4.1", "run": "This workbench"})
    share = {"format": "percent"}
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
            "run": "Run",
        },
        key="leaderboard",
        placeholder="–",
        alt="Accuracies of the paper's models and of all runs",
    )
    st.caption(
        "Figures of different data cannot be compared: only runs on the paper's set with its official split stand beside the "
        "paper's rows. The paper's validation accuracies are of 16 images."
    )


def reproduction_table(data: str) -> None:
    """Table 4.1 beside the newest runs of the paper's recipe on a dataset, redrawn while one of them is under way."""
    found = reproduction.latest(runs.every(), data)
    table = reproduction.table(found)
    table["model"] = [catalogue.get(one).title for one in table["model"]]
    table["split"] = [words.split(one) for one in table["split"]]
    table["between"] = [
        words.interval((low, high)) if pd.notna(low) else words.STATES[state][0] if state else ""
        for low, high, state in zip(table["low"], table["high"], table["state"], strict=True)
    ]
    share = {"format": "percent"}
    st.dataframe(
        table,
        hide_index=True,
        column_order=["model", "split", "paper", "here", "between", "difference", "weights"],
        column_config={
            "model": "Model",
            "split": "Images",
            "paper": st.column_config.NumberColumn("Paper", **share),
            "here": st.column_config.NumberColumn("Here", **share),
            "between": st.column_config.TextColumn("95 % interval, or state", help="Of the accuracy here (Wilson)."),
            "difference": st.column_config.NumberColumn("Here less paper (points)", **share),
            "weights": st.column_config.TextColumn(
                "Started from", help="The paper's pretrained models start from ImageNet."
            ),
        },
        placeholder="–",
        key="table-4-1",
        alt="Accuracies of the paper's Table 4.1 and of the same trainings here",
    )
    for run in found.values():
        if run.status.state == "failed":
            st.warning(f"**{run_card.title(run)}**: {run.status.reason}", icon=":material/error:")


def reproduce_panel(found: list[Run]) -> None:
    st.subheader(
        "The paper's Table 4.1, trained again",
        anchor=False,
        help="The three models by the paper's recipe on the official split; the newest such run of each is shown.",
    )
    if not datasets.names():
        return
    data = choose.addressed("On the dataset", datasets.names(), key="again", kind="dataset", width=320)
    busy = any(run.config.data == data and run.status.state not in ENDED for run in found)
    st.fragment(reproduction_table, run_every=2.0 if busy else None)(data)
    with st.expander("Train them", icon=":material/replay:"):
        st.markdown("Custom CNN, VGG-16 and ResNet-152, 100 epochs each, one after the other. Train shows them live.")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            weights = {
                name: st.selectbox(
                    f"{catalogue.get(name).title} starts from",
                    catalogue.get(name).weights,
                    key=f"again_{name}",
                    help="  \n".join(f"**{one}**: {catalogue.WEIGHTS[one]}" for one in catalogue.get(name).weights),
                    width=240,
                )
                for name in catalogue.PAPER
                if catalogue.get(name).has_trunk
            }
            if st.button("Train the three", type="primary", icon=":material/play_arrow:"):
                reproduce.submit(data, weights=weights, changes={})
                st.toast("Three trainings were queued.", icon=":material/play_arrow:")
                st.rerun()


st.title("Leaderboard", anchor=False)
found = runs.every()
if any(run.usable for run in found):
    notices.disclaimer()
    for name in sorted({run.config.data for run in found if run.usable}):
        notices.of_data(name)
standings_table(found)
with st.expander("Accuracies of all splits side by side"):
    all_runs(found)
reproduce_panel(found)
