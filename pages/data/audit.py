"""Audit: what may be wrong with a dataset, the images behind each finding, and what to do about them."""

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.data import audit
from cxr_core.data.audit import Audit, AuditFinding, Undecided
from cxr_core.data.audit.shortcuts import TRAITS
from cxr_core.data.datasets import Dataset
from cxr_core.jobs import background_jobs
from pages.ui import cached_data, curation_bar, messages, selectors

PER_PAGE = 48
SEVERITIES = {
    "high": ("High", ":material/error:", "red"),
    "medium": ("Medium", ":material/warning:", "orange"),
    "low": ("Low", ":material/info:", "gray"),
}
PROPOSED = {  # reasons
    "exact_duplicates": "duplicate",
    "near_duplicates": "duplicate",
    "same_image_in_two_splits": "duplicate",
    "near_duplicates_in_two_splits": "duplicate",
    "dark": "poor quality",
    "bright": "poor quality",
    "blurry": "poor quality",
    "low_information": "poor quality",
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
            on_click=background_jobs.audit,
            args=(dataset.name,),
            help="It goes on when you leave this page.",
        )
    st.fragment(watch, run_every=1.0 if running(dataset) else None)(dataset)
    return None


def running(dataset: Dataset) -> bool:
    return any(one.name == dataset.name and one.running for one in background_jobs.list_jobs())


def watch(dataset: Dataset) -> None:
    """Redrawn every second while the audit runs; the whole page when it has ended."""
    now = [one for one in background_jobs.list_jobs() if one.name == dataset.name]
    for one in now:
        messages.background_job(one)
    before = st.session_state.get("auditing", False)
    st.session_state["auditing"] = any(one.running for one in now)
    if before and not st.session_state["auditing"]:
        st.rerun()


def summary(found: Audit) -> None:
    """How many images, and how many findings and shortcuts of each severity."""
    severities = [one.severity for one in (*found.findings, *found.shortcuts)]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{formatting.plural(found.images, 'image')}** looked at", width="content")
        for severity, (title, icon, colour) in SEVERITIES.items():
            if count := severities.count(severity):
                st.badge(f"{count} {title.lower()}", icon=icon, color=colour)


def what(finding: AuditFinding, left: Undecided | None) -> str:
    """'62 images in 30 groups', 'all 62 images decided', 'left: 12 of 62 images, in 6 groups'."""
    grouped = finding.groups < finding.images
    whole = formatting.plural(finding.images, "image")
    if left is None or left.images == finding.images:
        return whole + (f" in {formatting.plural(finding.groups, 'group')}" if grouped else "")
    if not left.images:
        return f"nothing left of {whole}"
    return f"left: {left.images:,} of {whole}" + (f", in {formatting.plural(left.groups, 'group')}" if grouped else "")


def images_of(dataset: Dataset, finding: AuditFinding) -> None:
    """The gallery of a finding, group by group, with the bar of decisions."""
    key = f"audit-{dataset.name}-{finding.kind}"
    members = audit.finding_rows(dataset.name, finding.kind)
    table = cached_data.index_of(dataset)
    members["id"] = table["id"].to_numpy()[members["row"]]
    members["excluded"] = table["excluded"].to_numpy()[members["row"]]
    grouped = finding.groups < finding.images
    ticks, place, grid = st.container(horizontal=True, vertical_alignment="center"), st.container(), st.container()
    pages = -(-len(members) // PER_PAGE)
    page = st.number_input(f"Page (of {pages:,})", 1, pages, key=f"page-{key}", width=170) if pages > 1 else 1
    with ticks:
        shown = members.iloc[(page - 1) * PER_PAGE : page * PER_PAGE]
        if grouped:
            rest = members[members["group"].duplicated() & ~members["excluded"]]
            st.button(
                "Tick all but the first of each group",
                icon=":material/library_add_check:",
                on_click=curation_bar.preselect,
                args=(key, tuple(rest["id"])),
                disabled=rest.empty,
                help="On every page of this finding.",
            )
        st.button(
            "Tick this page",
            icon=":material/check_box:",
            on_click=curation_bar.preselect,
            args=(key, tuple(shown["id"])),
        )
        st.button(
            "Tick none", icon=":material/check_box_outline_blank:", on_click=curation_bar.preselect, args=(key, ())
        )
        excluded = int(members["excluded"].sum())
        if excluded:
            st.caption(f"{excluded:,} of {len(members):,} are excluded already", width="content")
    groups = dict(zip(shown["id"], shown["group"] + 1, strict=True)) if grouped else {}
    with grid:
        ticked = curation_bar.choosing_gallery(dataset, table.iloc[shown["row"]], key=key, choosing=True, groups=groups)
    elsewhere = [one for one in st.session_state.get(f"preset-{key}", ()) if one not in set(shown["id"])]
    with place:
        curation_bar.curation_bar(dataset, (*ticked, *elsewhere), key=key, reason=PROPOSED.get(finding.kind))


def shortcuts(found: Audit) -> None:
    """The strongest one as a sentence, all of them on demand."""
    if not found.shortcuts:
        return
    strongest = next((one for one in found.shortcuts if one.notable), None)
    if strongest is None:
        title, icon = "Shortcuts: no trait of the files says much about the class", ":material/check_circle:"
    else:
        _, icon, colour = SEVERITIES[strongest.severity]
        trait = TRAITS[strongest.trait]
        title = f":{colour}[**Shortcut:** {trait} tells {formatting.class_title(strongest.label).lower()} apart, AUC {strongest.auc:.2f}]"
    with st.expander(title, icon=icon):
        if strongest is not None:
            st.markdown(
                f"**{strongest.sentence}** AUC {strongest.auc:.2f} on the {formatting.split_title(strongest.split).lower()} images. "
                "A model that leans on it will fail on images from elsewhere."
            )
        shortcut_table(found)


def shortcut_table(found: Audit) -> None:
    st.caption(
        "How well one trait of the file alone tells one class from the others, as area under the ROC curve (AUC): 0.5 is "
        "chance, 1 is perfect; with its 95 % interval (Hanley and McNeil, 1982)."
    )
    table = pd.DataFrame(
        {
            "What that means": [one.sentence for one in found.shortcuts],
            "Split": [formatting.split_title(one.split) for one in found.shortcuts],
            "AUC": [one.auc for one in found.shortcuts],
            "95 % interval": [f"{one.ci95[0]:.2f} to {one.ci95[1]:.2f}" for one in found.shortcuts],
            "Tells best": [formatting.class_title(one.label) for one in found.shortcuts],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        column_config={"AUC": st.column_config.ProgressColumn(min_value=0.5, max_value=1.0, format="%.3f")},
        alt="How well each trait tells the classes apart, by split",
    )


st.title("Audit", anchor=False)
dataset = selectors.dataset_or_stop("Nothing to audit yet")
found = wanted(dataset)
if found is None:
    st.stop()
summary(found)
shortcuts(found)
if not found.findings:
    st.success("Nothing else stands out." if found.shortcuts else "Nothing stands out.", icon=":material/check_circle:")
else:
    by_kind, left = {one.kind: one for one in found.findings}, cached_data.undecided_of(dataset, found)
    kind = st.radio(
        "Finding",
        list(by_kind),
        format_func=lambda one: (
            f"{SEVERITIES[by_kind[one].severity][1]} {by_kind[one].title}: {what(by_kind[one], left.get(one))}"
        ),
        key="finding",
        bind="query-params",
        label_visibility="collapsed",
    )
    st.caption(by_kind[kind].meaning)
    if kind == "unreadable":
        st.dataframe(list(dataset.skipped), hide_index=True, alt="Files left out, with the reason")
    else:
        images_of(dataset, by_kind[kind])
