"""Audit: what may be wrong with a dataset, the images behind each finding, and what to do about them."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.data import audit
from cxr_core.data.audit import Audit, AuditFinding, Undecided
from cxr_core.data.audit.shortcuts import TRAITS
from cxr_core.data.datasets import Dataset
from cxr_core.jobs import background_jobs
from pages.ui import cached_data, curation_bar, messages, selectors, url_state

PER_PAGE = 48
SEVERITIES = {
    "high": ("High", ":material/error:", "red"),
    "medium": ("Medium", ":material/warning:", "orange"),
    "low": ("Low", ":material/info:", "gray"),
    "done": ("Done", ":material/check_circle:", "green"),  # nothing of it is left to decide
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
            on_click=messages.attempt,
            args=(background_jobs.audit, dataset.name),
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


def severity(finding: AuditFinding, left: Undecided | None) -> str:
    """Of what is still to be decided: one of SEVERITIES, or "done"."""
    return "done" if left is not None and not left.images else finding.severity


def summary(found: Audit, left: Mapping[str, Undecided]) -> None:
    """How many images were audited, and how many rows of the list below are of each severity or done."""
    severities = [severity(one, left.get(one.kind)) for one in found.findings]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{formatting.plural(found.images, 'image')}** audited", width="content")
        for name, (title, icon, colour) in SEVERITIES.items():
            if count := severities.count(name):
                st.badge(f"{count} {title.lower()}", icon=icon, color=colour)


def row(finding: AuditFinding, left: Undecided | None) -> str:
    """One row of the list: severity, title, and how many images are left to decide."""
    return f"{SEVERITIES[severity(finding, left)][1]} {finding.title}: {what(finding, left)}"


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
    page = selectors.page(pages, key=f"page-{key}")
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
left = cached_data.undecided_of(dataset, found)
summary(found, left)
shortcuts(found)
if not found.findings:
    st.success("Nothing else stands out." if found.shortcuts else "Nothing stands out.", icon=":material/check_circle:")
else:
    by_kind = {one.kind: one for one in found.findings}
    kind = url_state.choice(
        "Finding",
        list(by_kind),
        key="finding",
        titles={name: row(finding, left.get(name)) for name, finding in by_kind.items()},
        former=lambda text: next((name for name, one in by_kind.items() if f"{one.title}:" in text), ""),
        widget=st.radio,
        label_visibility="collapsed",
    )
    st.caption(by_kind[kind].meaning)
    if kind == "unreadable":
        st.dataframe(list(dataset.skipped), hide_index=True, alt="Files left out, with the reason")
    else:
        images_of(dataset, by_kind[kind])
