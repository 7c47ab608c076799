"""The leaderboard: all runs on any split by any figure, beside the paper and what others published."""

import pandas as pd
import streamlit as st

from cxr_core.data import datasets
from cxr_core.evaluation import leaderboard, reproduction
from cxr_core.jobs import reproduce
from cxr_core.models import catalogue
from cxr_core.runs import folder as runs
from cxr_core.runs.folder import Run
from cxr_core.runs.status import ENDED
from pages.ui import choose, notices, run_card, words


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
all_runs(found)
reproduce_panel(found)
