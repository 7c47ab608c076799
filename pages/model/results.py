"""Results: any run, any split, and all runs beside the paper's table."""

import pandas as pd
import streamlit as st

from cxr_core.data import datasets
from cxr_core.evaluation import figures, leaderboard, metrics, paper, reproduction
from cxr_core.jobs import reproduce
from cxr_core.models import catalogue
from cxr_core.runs import folder as runs
from cxr_core.runs.folder import Run
from cxr_core.runs.status import ENDED
from pages.ui import choose, loaders, notices, run_card, words
from pages.ui.theme import dark

UNITS = {"counts": "Images", "shares": "Share of the true class"}


def choices(usable: list[Run]) -> tuple[Run, str]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run = choose.run("Run", usable, width=440)
        splits = [split for split in ("test", "val", "train") if split in run.metrics]
        split = st.segmented_control(
            "Split",
            splits,
            default=splits[0],
            required=True,
            format_func=words.split,
            key="split",
            bind="query-params",
            help="Test images judge a network: it has learned nothing from them and nothing was chosen by them.",
        )
        run_card.badge(run.status)
    return run, split if split in splits else splits[0]


def headline(figure: dict) -> None:
    """Accuracy, macro F1, balanced accuracy with their intervals, and how much of the pneumonia is found."""
    about = {
        "accuracy": ("Accuracy", "Share of images whose class is right."),
        "macro_f1": ("Macro F1", "Mean over the classes of F1, which balances what is found against false alarms."),
        "balanced_accuracy": ("Balanced accuracy", "Mean over the classes of the share that is found."),
    }
    with st.container(horizontal=True):
        st.metric("Images", f"{figure['n']:,}", border=True, width=150, height="stretch")
        for name, (title, meaning) in about.items():
            st.metric(
                title,
                words.percent(figure[name]),
                delta=words.interval(figure["ci95"][name]),
                delta_color="off",
                delta_arrow="off",
                help=f"{meaning} Below: the 95 % interval, the range that other images of the same kind would likely give.",
                border=True,
                width=230,
                height="stretch",
            )


def confusion(run: Run, split: str, figure: dict) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Confusion matrix", anchor=False, width="content")
        unit = st.segmented_control(
            "Large figures",
            list(UNITS),
            default="counts",
            required=True,
            format_func=UNITS.__getitem__,
            key="unit",
            bind="query-params",
            label_visibility="collapsed",
        )
    titles = [words.label(name) for name in run.config.classes]
    st.plotly_chart(
        figures.confusion(figure["confusion"], titles, shares=unit == "shares", dark=dark()),
        theme=None,
        config=figures.CONFIG,
        key="confusion",
        alt=f"Confusion matrix of {run.id} on {split}; rows are true classes {titles}: {figure['confusion']}",
    )


def report(run: Run, split: str) -> None:
    st.subheader(
        "Classification report",
        anchor=False,
        help="Precision: of the images called so, how many are. Recall: of the images that are so, how many were called so. "
        "F1: their harmonic mean. Support: the number of images.",
    )
    table = metrics.report(loaders.predictions_of(run.id, split))
    table.index = [words.label(name) if name in run.config.classes else name for name in table.index]
    columns = dict.fromkeys(("precision", "recall", "f1-score"), st.column_config.NumberColumn(format="%.2f"))
    st.dataframe(
        table,
        column_config=columns,
        alt="Classification report",
        placeholder="",
    )
    if run.config.model in paper.REPORTS.get(split, {}):
        with st.expander(f"The paper's report, {words.split(split).lower()} images"):
            printed = paper.report(run.config.model, split)
            printed.index = [words.label(name) if name in paper.CLASSES else name for name in printed.index]
            st.dataframe(printed, column_config=columns, alt="The paper's report")
    figure = run.metrics[split]
    lines = [
        f"- **{words.label(name)}**: {words.percent(figure['per_class'][name]['recall'])} found"
        f" (95 % interval {words.interval(figure['ci95']['recall'][name])})"
        for name in run.config.classes
        if figure["per_class"][name]["support"]
    ]
    missing = [words.label(name).lower() for name in run.config.classes if not figure["per_class"][name]["support"]]
    if missing:
        lines.append(f"- This split has no {' and no '.join(missing)} images, so nothing is known of them here.")
    st.markdown("\n".join(lines))


def curves(run: Run) -> None:
    st.subheader("Learning curves", anchor=False)
    history = runs.history(run.id)
    best = runs.best_epoch(history, run.config.keep)
    st.plotly_chart(
        figures.learning_curves(history, best_epoch=best, dark=dark()),
        config=figures.CONFIG,
        key="curves",
        alt=f"Accuracy and loss over {len(history)} epochs",
    )
    if best is not None:
        why = {
            "val_accuracy": "the best validation accuracy",
            "val_loss": "the least validation loss",
            "last": "the last",
        }
        st.caption(f"Epoch {best} of {len(history)} is kept: {why[run.config.keep]}.")


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


st.title("Results", anchor=False)
found = runs.every()
usable = [run for run in found if run.usable]
if not usable:
    notices.empty(
        "No results yet",
        "Train a network first; its results appear here by themselves. The paper's own are below.",
        page="pages/model/train.py",
        link="Train a network",
        icon=":material/model_training:",
    )
else:
    run, split = choices(usable)
    notices.disclaimer()
    notices.of_data(run.config.data)
    if run.status.reason:
        st.info(run.status.reason, icon=words.STATES[run.status.state][1])
    figure = run.metrics[split]
    headline(figure)
    left, right = st.columns(2, gap="large")
    with left:
        confusion(run, split, figure)
    with right:
        report(run, split)
    curves(run)
reproduce_panel(found)
all_runs(found)
