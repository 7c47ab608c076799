"""Curate: build the set that models learn from, and the record of every decision behind it."""

import pandas as pd
import streamlit as st

from cxr_core import csv_export, formatting
from cxr_core.data import balancing, datasets, decisions, index, manifest
from cxr_core.data.datasets import Dataset
from cxr_core.data.manifest import Manifest, Supplement
from cxr_core.errors import CxrError
from cxr_core.evaluation import plots
from pages.ui import cached_data, curation_bar, messages, selectors, url_state
from pages.ui.theme import dark

BALANCES = {
    "none": "As it is",
    "undersample": "Undersample",
    "oversample": "Oversample",
    "augment": "Augment to balance",
    "class_weights": "Class weights",
}
PARTS = {"build": "Build a set", "record": curation_bar.RECORD}


def choices(dataset: Dataset) -> dict:
    """The arguments of `manifest.build` that were chosen."""
    left, right = st.columns(2)
    with left, st.container(border=True, height="stretch"):
        st.markdown("**Splits**")
        split = st.segmented_control(
            "Validation images",
            list(formatting.SPLIT_RULES),
            default="patient",
            required=True,
            format_func=formatting.SPLIT_RULES.__getitem__,
            key="build_split",
            persist_state="session",
            help=" ".join(manifest.SPLIT_RULES.values()),
        )
        with st.container(horizontal=True):
            share = st.number_input(
                "Share for validation", manifest.LEAST_SHARE, manifest.MOST_SHARE, manifest.USUAL_SHARE, 0.05,
                disabled=split != "patient", key="build_share", persist_state="session", width=180,
            )  # fmt: skip
            seed = st.number_input(
                "Seed",
                0,
                manifest.MAX_SEED,
                0,
                key="build_seed",
                persist_state="session",
                width=180,
                help="Of all that is drawn at random.",
            )
    with right, st.container(border=True, height="stretch"):
        st.markdown("**Balance of the training images**")
        balance = st.selectbox(
            "Strategy", list(BALANCES), format_func=BALANCES.__getitem__, key="build_balance", persist_state="session"
        )
        st.caption(balancing.STRATEGIES[balance])
        supplements = supplement_editor(dataset)
    return {
        "split": split,
        "val_fraction": share,
        "seed": int(seed),
        "balance": balance,
        "supplements": supplements,
    }


def supplement_editor(dataset: Dataset) -> tuple[Supplement, ...]:
    others = [name for name in datasets.list_names() if name != dataset.name]
    if not others:
        st.caption("With a second dataset, its images could fill up a class here.")
        return ()
    st.markdown(
        "Add images of a class from another dataset:",
        help="They join the images that are trained on; with a new patient split some of them go to validation. Files that "
        "are in this dataset already are passed over.",
    )
    table = st.data_editor(
        pd.DataFrame({"From": pd.Series(dtype=str), "Class": pd.Series(dtype=str), "Images": pd.Series(dtype="Int64")}),
        num_rows="dynamic",
        hide_index=True,
        key=f"supplements-{dataset.name}",
        column_config={
            "From": st.column_config.SelectboxColumn("Add from", options=others, required=True),
            "Class": st.column_config.SelectboxColumn(options=dataset.classes, required=True),
            "Images": st.column_config.NumberColumn(min_value=1, step=1, required=True),
        },
    )
    whole = table.dropna()
    return tuple(Supplement(row.From, row.Class, int(row.Images)) for row in whole.itertuples())


def before_and_after(dataset: Dataset, chosen: dict) -> None:
    """The classes per split, before and after, and what the choice costs."""
    rows = cached_data.plan_of(dataset, **chosen)
    titles = {name: formatting.class_title(name) for name in dataset.classes}
    after = index.counts(rows, dataset.classes)
    left, right = st.columns(2)
    for column, title, counts, key in ((left, "Before", dataset.counts, "before"), (right, "After", after, "after")):
        with column, st.container(border=True):
            st.markdown(f"**{title}**: {formatting.plural(sum(sum(one.values()) for one in counts.values()), 'image')}")
            st.plotly_chart(
                plots.class_counts(counts, titles, split_titles=formatting.SPLITS, dark=dark()),
                config=plots.CONFIG,
                key=key,
                alt=f"Images per class and split {title.lower()}: {counts}",
            )
    st.markdown("\n".join(f"- {line}" for line in cost(dataset, rows, chosen)))


def cost(dataset: Dataset, rows: pd.DataFrame, chosen: dict) -> list[str]:
    """What the choices change, in sentences."""
    train = rows[rows["split"] == "train"]
    own = train[train["copy"] == 0]
    lines = []
    excluded = cached_data.index_of(dataset)["excluded"].sum()
    if excluded:
        lines.append(f"{formatting.plural(int(excluded), 'image')} left out by decision.")
    relabelled = int((rows["was"] != rows["class"]).sum())
    if relabelled:
        lines.append(f"{formatting.plural(relabelled, 'image')} with another class than in the source.")
    added = int((rows["data"] != dataset.name).sum())
    if added:
        lines.append(
            f"{formatting.plural(added, 'image')} from other datasets, all among training and validation images."
        )
    if chosen["balance"] == "undersample":
        whole = cached_data.plan_of(dataset, **{**chosen, "balance": "none"})
        lost = int((whole["split"] == "train").sum()) - len(train)
        lines.append(f"Undersampling leaves {formatting.plural(lost, 'training image')} unused: less to learn from.")
    elif chosen["balance"] in ("oversample", "augment"):
        repeats = len(train) - len(own)
        lines.append(
            f"{formatting.plural(repeats, 'repeat')}: an epoch takes {len(train) / max(len(own), 1):.2f} times as long, "
            "and repeated images are learned by heart sooner."
        )
    elif chosen["balance"] == "class_weights":
        weights = train.groupby("class")["weight"].first()
        told = ", ".join(f"{formatting.class_title(name).lower()} {value:.2f}" for name, value in weights.items())
        lines.append(
            f"Weights in the loss: {told}. Costs no time; single images of rare classes sway the network more."
        )
    val = rows[rows["split"] == "val"]
    before = sum(dataset.counts.get("val", {}).values())
    if len(val) != before:
        lines.append(f"{formatting.plural(len(val), 'validation image')} instead of {before:,} to choose an epoch by.")
    if len(val) < 100:
        lines.append(f"Only {formatting.plural(len(val), 'validation image')}: too few to choose an epoch by.")
    return lines or ["Nothing changes."]


def build_panel(dataset: Dataset) -> None:
    chosen = choices(dataset)
    try:
        before_and_after(dataset, chosen)
    except CxrError as error:
        st.error(str(error), icon=":material/error:")
        return
    if st.button("Build", type="primary", icon=":material/inventory_2:", help="Freezes exactly this as a manifest."):
        with st.spinner("Building …"):
            built = manifest.build(dataset.name, **chosen)
        st.session_state["built"] = built.id
    made = manifest.list_manifests(dataset.name)
    if not made:
        return
    st.subheader(f"{formatting.plural(len(made), 'manifest')}, newest first", anchor=False)
    with st.container(height=900 if len(made) > 5 else "content", border=False):
        for one in made:
            manifest_card(one, fresh=one.id == st.session_state.get("built"))


def manifest_card(one: Manifest, *, fresh: bool) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Manifest `{one.id}`**", width="content")
            if fresh:
                st.badge("Just built", icon=":material/check:", color="green")
            st.space("stretch")
            rows, description = manifest.files(one)
            st.download_button(
                "JSON", description.read_bytes, f"{one.id}.json", "application/json",
                icon=":material/download:", key=f"json-{one.id}", on_click="ignore",
                help="How it was made: choices, sources with their citations, decisions in force, counts.",
            )  # fmt: skip
            st.download_button(
                "Parquet", rows.read_bytes, f"{one.id}.parquet", "application/vnd.apache.parquet",
                icon=":material/download:", key=f"parquet-{one.id}", on_click="ignore", help="One row an image.",
            )  # fmt: skip
            st.page_link(
                "pages/model/train.py",
                label="Train on it",
                icon=":material/model_training:",
                query_params={"manifest": f"{one.data}:{one.id}"},
            )
        parts = [formatting.SPLIT_RULES[one.split], f"{BALANCES[one.balance].lower()}, seed {one.seed}"]
        if one.split == "patient":
            parts[0] += f", {one.val_fraction:.0%} for validation"
        parts += [f"{one.excluded} excluded, {one.relabelled} relabelled"] if one.excluded or one.relabelled else []
        parts += [
            f"{formatting.plural(extra.images, 'image')} of {extra.label} from {extra.data}"
            for extra in one.supplements
        ]
        counts = "; ".join(
            f"{formatting.split_title(split).lower()} "
            + ", ".join(f"{count:,} {formatting.class_title(label).lower()}" for label, count in row.items())
            for split, row in one.counts.items()
        )
        st.caption(" · ".join(parts) + f". {counts.capitalize()}.")


def record_panel(dataset: Dataset) -> None:
    made = decisions.record(dataset.name)
    if not made:
        messages.empty(
            "No decisions yet",
            "Choose images on the Browse or the Audit page; exclude, relabel or tag them. The record of it appears here.",
            page="pages/data/browse.py",
            link="Choose images",
            icon=":material/photo_library:",
        )
        return
    active = {one.number for one in decisions.in_force(dataset.name)}
    table = pd.DataFrame(
        {
            "No.": [one.number for one in made],
            "Decision": [curation_bar.sentence(one) for one in made],
            "State": [
                "" if one.action in ("undo", "redo") else "in force" if one.number in active else "undone"
                for one in made
            ],
            "Reason": [one.reason for one in made],
            "Who": [one.who for one in made],
            "When (UTC)": [one.time[:19].replace("T", " ") for one in made],
            "Images": [", ".join(one.images) for one in made],
        }
    ).iloc[::-1]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        reversible = [one for one in reversed(made) if one.action in decisions.ACTIONS]
        number = st.selectbox(
            "Decision",
            [one.number for one in reversible],
            format_func=lambda one: (
                f"{one}: {curation_bar.signed_sentence(made[one - 1])}" + ("" if one in active else " (undone)")
            ),
            key=f"decision-{dataset.name}",
            persist_state="session",
            width=380,
        )
        curation_bar.name_field("record")
        action = "undo" if number in active else "redo"
        st.button(
            action.capitalize(),
            icon=f":material/{action}:",
            on_click=curation_bar.undo_or_redo,
            args=(dataset.name, number, action, "record"),
        )
        st.download_button(
            "Download the record", csv_export.csv(table), f"{dataset.name}-decisions.csv", "text/csv",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip
    curation_bar.show_outcome()
    st.dataframe(table, hide_index=True, alt="Every decision, newest first")


st.title("Curate", anchor=False)
dataset = selectors.dataset_or_stop("Nothing to curate yet")
part = url_state.choice(
    "Part", list(PARTS), key="part", titles=PARTS, default="build",
    widget=st.segmented_control, required=True, label_visibility="collapsed",
)  # fmt: skip
if part == "build":
    build_panel(dataset)
else:
    record_panel(dataset)
