"""Audit: what may be wrong with a dataset, the images behind each finding, and what to do about them."""

import pandas as pd
import streamlit as st

from cxr_core.data import audit
from cxr_core.data.audit import Audit, Finding
from cxr_core.data.datasets import Dataset
from cxr_core.jobs import errands
from pages.ui import choose, decide, loaders, notices, words

PER_PAGE = 48
SEVERITIES = {
    "high": ("High", ":material/error:", "red"),
    "medium": ("Medium", ":material/warning:", "orange"),
    "low": ("Low", ":material/info:", "gray"),
}


def wanted(dataset: Dataset) -> Audit | None:
    """The audit on disk, or the offer to make one, or how far it is."""
    found = audit.latest(dataset.name)
    if found is not None:
        return found
    st.markdown(
        "An audit looks for duplicates, patients in two splits, files of odd size or content, and for **shortcuts**: traits of "
        "the files that tell the classes apart without any look at the lungs."
    )
    if not running(dataset):
        st.button(
            "Run the audit",
            type="primary",
            icon=":material/fact_check:",
            on_click=errands.audit,
            args=(dataset.name,),
            help="It goes on when you leave this page.",
        )
    st.fragment(watch, run_every=1.0 if running(dataset) else None)(dataset)
    return None


def running(dataset: Dataset) -> bool:
    return any(one.name == dataset.name and one.running for one in errands.underway())


def watch(dataset: Dataset) -> None:
    """Redrawn every second while the audit runs; the whole page when it has ended."""
    now = [one for one in errands.underway() if one.name == dataset.name]
    for one in now:
        notices.errand(one)
    before = st.session_state.get("auditing", False)
    st.session_state["auditing"] = any(one.running for one in now)
    if before and not st.session_state["auditing"]:
        st.rerun()


def summary(found: Audit) -> None:
    with st.container(horizontal=True):
        st.metric("Images looked at", f"{found.images:,}", border=True, width=190)
        for severity, (title, _, _) in SEVERITIES.items():
            count = sum(one.severity == severity for one in found.findings)
            st.metric(
                f"Findings, {title.lower()}", count, border=True, width=190, help=f"Kinds of {title.lower()} severity."
            )


def caption(finding: Finding) -> str:
    """'62 images in 30 groups: …'"""
    grouped = f" in {words.plural(finding.groups, 'group')}" if finding.groups < finding.images else ""
    return f"{SEVERITIES[finding.severity][0]} · {words.plural(finding.images, 'image')}{grouped}. {finding.meaning}"


def images_of(dataset: Dataset, finding: Finding) -> None:
    """The gallery of a finding, group by group, with the bar of decisions."""
    key = f"audit-{dataset.name}-{finding.kind}"
    members = audit.rows(dataset.name, finding.kind)
    table = loaders.index_of(dataset)
    members["id"] = table["id"].to_numpy()[members["row"]]
    members["excluded"] = table["excluded"].to_numpy()[members["row"]]
    grouped = finding.groups < finding.images
    with st.container(horizontal=True, vertical_alignment="bottom"):
        pages = -(-len(members) // PER_PAGE)
        page = st.number_input(f"Page (of {pages:,})", 1, pages, key=f"page-{key}", width=170) if pages > 1 else 1
        shown = members.iloc[(page - 1) * PER_PAGE : page * PER_PAGE]
        if grouped:
            rest = members[members["group"].duplicated() & ~members["excluded"]]
            st.button(
                "Tick all but the first of each group",
                icon=":material/library_add_check:",
                on_click=decide.preset,
                args=(key, tuple(rest["id"])),
                disabled=rest.empty,
                help="On every page of this finding.",
            )
        st.button("Tick this page", icon=":material/check_box:", on_click=decide.preset, args=(key, tuple(shown["id"])))
        st.button("Tick none", icon=":material/check_box_outline_blank:", on_click=decide.preset, args=(key, ()))
        excluded = int(members["excluded"].sum())
        if excluded:
            st.markdown(f"{excluded:,} of {len(members):,} are excluded already", width="content")
    place = st.container()
    groups = dict(zip(shown["id"], shown["group"] + 1, strict=True)) if grouped else {}
    ticked = decide.choosing_gallery(dataset, table.iloc[shown["row"]], key=key, choosing=True, groups=groups)
    elsewhere = [one for one in st.session_state.get(f"preset-{key}", ()) if one not in set(shown["id"])]
    with place:
        decide.bar(dataset, (*ticked, *elsewhere), key=key)


def shortcut_table(found: Audit) -> None:
    st.subheader(
        "Shortcuts",
        anchor=False,
        help="How well one trait of the file alone tells one class from the others, as area under the ROC curve (AUC): 0.5 is "
        "chance, 1 is perfect. In brackets the 95 % interval (Hanley and McNeil, 1982).",
    )
    if not found.shortcuts:
        st.caption("No split has two classes to tell apart.")
        return
    strongest = next((one for one in found.shortcuts if one.notable), None)
    if strongest:
        st.warning(
            f"**{strongest.sentence}** AUC {strongest.auc:.2f} on the {words.split(strongest.split).lower()} images. "
            "A model that leans on it will fail on images from elsewhere.",
            icon=":material/alt_route:",
        )
    else:
        st.success("No trait of the files says much about the class.", icon=":material/check_circle:")
    table = pd.DataFrame(
        {
            "What that means": [one.sentence for one in found.shortcuts],
            "Split": [words.split(one.split) for one in found.shortcuts],
            "AUC": [one.auc for one in found.shortcuts],
            "95 % interval": [f"{one.ci95[0]:.2f} to {one.ci95[1]:.2f}" for one in found.shortcuts],
            "Tells best": [words.label(one.label) for one in found.shortcuts],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        column_config={"AUC": st.column_config.ProgressColumn(min_value=0.5, max_value=1.0, format="%.3f")},
        alt="How well each trait tells the classes apart, by split",
    )


st.title("Audit", anchor=False)
dataset = choose.dataset_or_stop("Nothing to audit yet")
found = wanted(dataset)
if found is None:
    st.stop()
summary(found)
st.subheader("Findings", anchor=False)
if not found.findings:
    st.success("Nothing stands out.", icon=":material/check_circle:")
else:
    by_kind = {one.kind: one for one in found.findings}
    kind = st.radio(
        "Finding",
        list(by_kind),
        format_func=lambda one: f"{SEVERITIES[by_kind[one].severity][1]} {by_kind[one].title}",
        captions=[caption(one) for one in found.findings],
        key="finding",
        bind="query-params",
        label_visibility="collapsed",
    )
    if kind == "unreadable":
        st.dataframe(list(dataset.skipped), hide_index=True, alt="Files left out, with the reason")
    else:
        images_of(dataset, by_kind[kind])
shortcut_table(found)
