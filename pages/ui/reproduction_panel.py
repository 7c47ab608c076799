"""The paper's Table 4.1 beside the same trainings done here, and the button that starts them."""

import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError
from cxr_core.evaluation import reproduction
from cxr_core.jobs import reproduce
from cxr_core.models import catalogue
from cxr_core.runs import run_store as runs
from cxr_core.runs.status import ENDED
from pages.ui import url_state


def show() -> None:
    """The table once there is something in it; until then one sentence and the button."""
    st.subheader("The paper's Table 4.1, trained again", anchor=False)
    suitable = reproduction.suitable_datasets()
    if not suitable:
        st.markdown(
            "Custom CNN, VGG-16 and ResNet-152 can be trained here as the paper trained them, on its 5,856 real images in their "
            "official splits. Add that set on Home first."
        )
        return
    data = suitable[0]
    if len(suitable) > 1:
        data = url_state.choice("On the dataset", suitable, key="again", kind="dataset", width=320)
    reproductions = reproduction.latest_reproductions(runs.list_runs(), data)
    if reproductions:
        busy = any(run.status.state not in ENDED for run in reproductions.values())
        st.fragment(_table, run_every=2.0 if busy else None)(data)
    else:
        st.markdown(
            f"No run on '{formatting.verbatim(data)}' repeats one of the paper's trainings: its recipe with nothing changed but "
            "the seed, on its own images and splits."
        )
    with st.popover("Train the three", icon=":material/play_arrow:"):
        _start(data)


def _table(data: str) -> None:
    """Refreshed while one of the runs is queued or running."""
    table = reproduction.table(reproduction.latest_reproductions(runs.list_runs(), data))
    rows = []
    for row in table[table["run"] != ""].to_dict("records"):
        ours, difference = formatting.RUN_STATES[row["state"]][0], ""
        if row["within"] is not None:
            ours = f"{formatting.percent(row['here'])} ({formatting.interval((row['low'], row['high']))})"
            difference = formatting.points(row["difference"]) + ("" if row["within"] else " *")
        model, split = catalogue.title(row["model"]), formatting.split_title(row["split"])
        rows.append((model, split, formatting.percent(row["paper"]), ours, difference))
    st.dataframe(
        [dict(zip(("Model", "Images", "Paper", "Ours (95 % interval)", "Ours − paper"), row, strict=True)) for row in rows],
        hide_index=True,
        column_config={"Ours − paper": st.column_config.TextColumn(help="* The paper's lies outside our interval.")},
        key="table-4-1",
        alt="Accuracies of the paper's Table 4.1 and of the same trainings here",
    )  # fmt: skip


def _start(data: str) -> None:
    """Ask before hours of training are queued."""
    st.markdown(
        "Three trainings of 100 epochs, one after the other; they may take hours. VGG-16 and ResNet-152 start from ImageNet "
        "weights, which are downloaded unless they are on this machine. To start from a file: "
        "`python -m cxr_core reproduce --weights MODEL=FILE`."
    )
    if st.button("Queue them", type="primary", icon=":material/check:"):
        try:
            reproduce.submit(data, weights={}, changes={})
        except CxrError as error:
            st.error(formatting.verbatim(str(error)), icon=":material/error:")
            return
        st.toast("Three trainings were queued.", icon=":material/play_arrow:")
        st.rerun()
