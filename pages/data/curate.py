"""Curate: build the set that models are trained on, and the record of every decision behind it."""

import pandas as pd
import streamlit as st

from cxr_core import csv_export, formatting
from cxr_core.data import balancing, datasets, decisions, index, manifest
from cxr_core.data.datasets import Dataset
from cxr_core.data.decisions import Decision
from cxr_core.data.manifest import Manifest, Supplement
from cxr_core.errors import CxrError
from cxr_core.evaluation import plots
from pages.ui import cached_data, curation_bar, messages, selectors, url_state
from pages.ui.cached_data import BuildOptions
from pages.ui.theme import dark

BALANCES = {
    "none": "None",
    "undersample": "Undersample",
    "oversample": "Oversample",
    "augment": "Augment to balance",
    "class_weights": "Class weights",
}
PARTS = {"build": "Build a set", "record": curation_bar.RECORD}


def build_options(dataset: Dataset) -> BuildOptions:
    """The chosen arguments of `manifest.build`."""
    left, right = st.columns(2)
    with left, st.container(border=True, height="stretch"):
        st.markdown("**Splits**")
        split = st.segmented_control(
            "Validation split", list(formatting.SPLIT_RULES), default="patient", required=True, key="build_split",
            persist_state="session", format_func=formatting.SPLIT_RULES.__getitem__,
            help=" ".join(manifest.SPLIT_RULES.values()),
        )  # fmt: skip
        with st.container(horizontal=True):
            fraction = st.number_input(
                "Validation fraction", manifest.LEAST_SHARE, manifest.MOST_SHARE, manifest.USUAL_SHARE, 0.05,
                disabled=split != "patient", key="build_share", persist_state="session", width=180,
            )  # fmt: skip
            seed = st.number_input(
                "Seed", 0, manifest.MAX_SEED, 0, key="build_seed", persist_state="session", width=180,
                help="Of all random choices.",
            )  # fmt: skip
    with right, st.container(border=True, height="stretch"):
        st.markdown("**Balance of the training images**")
        balance = st.selectbox(
            "Strategy", list(BALANCES), format_func=BALANCES.__getitem__, key="build_balance", persist_state="session"
        )
        st.caption(balancing.STRATEGIES[balance])
        supplements = supplement_editor(dataset)
    return {"split": split, "val_fraction": fraction, "seed": int(seed), "balance": balance, "supplements": supplements}


def supplement_editor(dataset: Dataset) -> tuple[Supplement, ...]:
    others = [name for name in datasets.list_names() if name != dataset.name]
    if not others:
        st.caption("With a second dataset, its images could supplement a class here.")
        return ()
    st.markdown(
        "Add images of a class from another dataset:",
        help="They are added to the training images; with a new patient-wise split some of them go to validation. Files that "
        "are already in this dataset are skipped.",
    )
    key, state = f"supplements-{dataset.name}", st.session_state
    if key not in state:  # not drawn for a while: it begins with what was entered before
        empty = {"From": pd.Series(dtype=str), "Class": pd.Series(dtype=str), "Images": pd.Series(dtype="Int64")}
        state[f"first-{key}"] = state.get(f"entered-{key}", pd.DataFrame(empty))
    table = st.data_editor(
        state[f"first-{key}"],
        num_rows="dynamic",
        hide_index=True,
        key=key,
        column_config={
            "From": st.column_config.SelectboxColumn("Add from", options=others, required=True),
            "Class": st.column_config.SelectboxColumn(options=dataset.classes, required=True),
            "Images": st.column_config.NumberColumn(min_value=1, step=1, required=True),
        },
    )
    state[f"entered-{key}"] = table
    return tuple(
        Supplement(str(row["From"]), str(row["Class"]), int(row["Images"])) for row in table.dropna().to_dict("records")
    )


def before_and_after(dataset: Dataset, options: BuildOptions) -> None:
    """Show the classes per split, before and after, and what the options cost."""
    rows = cached_data.plan_of(dataset, **options)
    titles = {name: formatting.class_title(name) for name in dataset.classes}
    after = index.counts(rows, dataset.classes)
    left, right = st.columns(2)
    for column, title, counts, key in ((left, "Before", dataset.counts, "before"), (right, "After", after, "after")):
        with column, st.container(border=True):
            total = sum(sum(by_class.values()) for by_class in counts.values())
            st.markdown(f"**{title}**: {formatting.plural(total, 'image')}")
            st.plotly_chart(
                plots.class_counts(counts, titles, split_titles=formatting.SPLITS, dark=dark()),
                config=plots.CONFIG,
                key=key,
                alt=f"Images per class and split {title.lower()}: {counts}",
            )
    st.markdown("\n".join(f"- {line}" for line in changes(dataset, rows, options)))


def changes(dataset: Dataset, rows: pd.DataFrame, options: BuildOptions) -> list[str]:
    """Changes by the options, in sentences."""
    lines = []
    excluded = int(cached_data.index_of(dataset)["excluded"].sum())
    if excluded:
        lines.append(f"{formatting.plural(excluded, 'image')} excluded by decision.")
    relabelled = int((rows["was"] != rows["class"]).sum())
    if relabelled:
        lines.append(f"{formatting.plural(relabelled, 'image')} relabelled by decision.")
    added = int((rows["data"] != dataset.name).sum())
    if added:
        lines.append(
            f"{formatting.plural(added, 'image')} from other datasets, all among training and validation images."
        )
    lines += [line for line in [balance_cost(dataset, rows, options)] if line]
    val = rows[rows["split"] == "val"]
    before = sum(dataset.counts.get("val", {}).values())
    if len(val) != before:
        lines.append(f"{formatting.plural(len(val), 'validation image')} instead of {before:,} to select an epoch.")
    if len(val) < 100:
        lines.append(f"Only {formatting.plural(len(val), 'validation image')}: too few to select an epoch.")
    return lines or ["No changes."]


def balance_cost(dataset: Dataset, rows: pd.DataFrame, options: BuildOptions) -> str:
    """Cost of balancing, as a sentence; "" without it."""
    train = rows[rows["split"] == "train"]
    if options["balance"] == "undersample":
        without: BuildOptions = {**options, "balance": "none"}
        unbalanced = cached_data.plan_of(dataset, **without)
        unused = int((unbalanced["split"] == "train").sum()) - len(train)
        return f"Undersampling leaves {formatting.plural(unused, 'training image')} unused."
    if options["balance"] in ("oversample", "augment"):
        distinct = int((train["copy"] == 0).sum())
        return (
            f"{formatting.plural(len(train) - distinct, 'repeat')}: an epoch takes {len(train) / max(distinct, 1):.2f} times "
            "as long, and repeated images are overfitted sooner."
        )
    if options["balance"] == "class_weights":
        weights = train.groupby("class")["weight"].first()
        listed = ", ".join(
            f"{formatting.class_markdown(str(name)).lower()} {value:.2f}" for name, value in weights.items()
        )
        return f"Loss weights: {listed}. An epoch takes no longer; single images of rare classes have more influence."
    return ""


def build_panel(dataset: Dataset) -> None:
    options = build_options(dataset)
    messages.paper_citation()  # the help of the splits speaks of it
    try:
        before_and_after(dataset, options)
    except CxrError as error:
        st.error(formatting.verbatim(str(error)), icon=":material/error:")
        return
    if st.button("Build", type="primary", icon=":material/inventory_2:", help="Saves exactly this set as a manifest."):
        with st.spinner("Building …"):
            built = manifest.build(dataset.name, **options)
        st.session_state["built"] = built.id
    manifests = manifest.list_manifests(dataset.name)
    if not manifests:
        return
    st.subheader(f"{formatting.plural(len(manifests), 'manifest')}, newest first", anchor=False)
    with st.container(height=900 if len(manifests) > 5 else "content", border=False):
        for built in manifests:
            manifest_card(built, fresh=built.id == st.session_state.get("built"))


def manifest_card(built: Manifest, *, fresh: bool) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Manifest {formatting.verbatim(built.id)}**", width="content")
            if fresh:
                st.badge("Just built", icon=":material/check:", color="green")
            st.space("stretch")
            rows, description = manifest.files(built)
            st.download_button(
                "JSON", description.read_bytes, f"{built.id}.json", "application/json",
                icon=":material/download:", key=f"json-{built.id}", on_click="ignore",
                help="Choices, sources with citations, decisions in force, counts.",
            )  # fmt: skip
            st.download_button(
                "Parquet", rows.read_bytes, f"{built.id}.parquet", "application/vnd.apache.parquet",
                icon=":material/download:", key=f"parquet-{built.id}", on_click="ignore", help="One row per image.",
            )  # fmt: skip
            st.page_link(
                "pages/model/train.py",
                label="Train on this set",
                icon=":material/model_training:",
                query_params={"manifest": f"{built.data}:{built.id}"},
            )
        parts = [
            formatting.SPLIT_RULES[built.split],
            f"balance: {BALANCES[built.balance].lower()}",
            f"seed {built.seed}",
        ]
        if built.split == "patient":
            parts[0] += f", validation fraction {100 * built.val_fraction:.0f} %"
        if built.excluded or built.relabelled:
            parts.append(f"{built.excluded} excluded, {built.relabelled} relabelled")
        parts += [
            f"{formatting.plural(supplement.images, 'image')} of "
            f"{formatting.verbatim(f'{supplement.label} from {supplement.data}')}"
            for supplement in built.supplements
        ]
        counts = "; ".join(
            f"{formatting.split_title(split).lower()} "
            + ", ".join(f"{count:,} {formatting.class_markdown(label).lower()}" for label, count in by_class.items())
            for split, by_class in built.counts.items()
        )
        st.caption(" · ".join(parts) + f". {counts.capitalize()}.")


def record_panel(dataset: Dataset) -> None:
    record = decisions.record(dataset.name)
    if not record:
        messages.empty(
            "No decisions yet",
            "Choose images on the Browse or Audit page and exclude, relabel or tag them. Every decision is recorded here.",
            page="pages/data/browse.py",
            link="Choose images",
            icon=":material/photo_library:",
        )
        return
    active = {decision.number for decision in decisions.in_force(dataset.name)}
    by_number = {decision.number: decision for decision in record}

    def state(decision: Decision) -> str:
        if decision.action not in decisions.ACTIONS:
            return ""
        return "in force" if decision.number in active else "undone"

    table = pd.DataFrame(
        {
            "No.": list(by_number),
            "Decision": [curation_bar.sentence(decision) for decision in record],
            "State": [state(decision) for decision in record],
            "Reason": [decision.reason for decision in record],
            "Who": [decision.who for decision in record],
            "When (UTC)": [decision.time[:19].replace("T", " ") for decision in record],
            "Images": [", ".join(decision.images) for decision in record],
        }
    ).iloc[::-1]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = st.selectbox(
            "Decision",
            [decision.number for decision in reversed(record) if decision.action in decisions.ACTIONS],
            format_func=lambda number: (
                f"{number}: {curation_bar.signed_sentence(by_number[number])}"
                + ("" if number in active else " (undone)")
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
