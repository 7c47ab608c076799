"""Audit: findings about a dataset, the images behind each, and decisions about them."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.data import audit
from cxr_core.data.audit import Audit, AuditFinding, Undecided
from cxr_core.data.audit.shortcuts import TRAITS
from cxr_core.data.datasets import Dataset
from cxr_core.formatting import BadgeColour
from cxr_core.jobs import background_jobs
from pages.ui import cached_data, curation_bar, image_selection, messages, selectors, url_state

PER_PAGE = 48
SEVERITIES: dict[str, tuple[str, str, BadgeColour]] = {  # title, icon, colour
    "high": ("High", ":material/error:", "red"),
    "medium": ("Medium", ":material/warning:", "orange"),
    "low": ("Low", ":material/info:", "gray"),
    "done": ("Done", ":material/check_circle:", "green"),  # nothing of it is left to decide
}
PROPOSED_REASONS = {
    "exact_duplicates": "duplicate",
    "near_duplicates": "duplicate",
    "same_image_in_two_splits": "duplicate",
    "near_duplicates_in_two_splits": "duplicate",
    "dark": "poor quality",
    "bright": "poor quality",
    "blurry": "poor quality",
    "low_information": "poor quality",
}


def offer_audit(dataset: Dataset) -> None:
    """Offer to run an audit, or show its progress."""
    st.markdown(
        "An audit finds duplicates, patients in two splits, files of unusual size or content, and **shortcuts**: properties of "
        "the files that separate the classes without anything of the lungs."
    )
    if not running(dataset):
        st.button(
            "Run the audit",
            type="primary",
            icon=":material/fact_check:",
            on_click=messages.attempt,
            args=(background_jobs.audit, dataset.name),
            help="It continues when you leave this page.",
        )
    st.fragment(watch, run_every=1.0 if running(dataset) else None)(dataset)


def running(dataset: Dataset) -> bool:
    return any(job.name == dataset.name and job.running for job in background_jobs.list_jobs())


def watch(dataset: Dataset) -> None:
    """Redraw every second while the audit runs, and the whole page when it has ended."""
    jobs = [job for job in background_jobs.list_jobs() if job.name == dataset.name]
    for job in jobs:
        messages.background_job(job)
    before = st.session_state.get("auditing", False)
    st.session_state["auditing"] = any(job.running for job in jobs)
    if before and not st.session_state["auditing"]:
        st.rerun()


def severity(finding: AuditFinding, undecided: Undecided | None) -> str:
    """The severity of the undecided images of a finding: a key of SEVERITIES."""
    return "done" if undecided is not None and not undecided.images else finding.severity


def summary(latest: Audit, undecided: Mapping[str, Undecided]) -> None:
    """Show the number of audited images, and of findings by severity."""
    severities = [severity(finding, undecided.get(finding.kind)) for finding in latest.findings]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{formatting.plural(latest.images, 'image')}** audited", width="content")
        for name, (title, icon, colour) in SEVERITIES.items():
            if count := severities.count(name):
                st.badge(f"{count} {title.lower()}", icon=icon, color=colour)


def list_row(finding: AuditFinding, undecided: Undecided | None) -> str:
    """One row of the list: severity, title, and how many images are undecided."""
    return f"{SEVERITIES[severity(finding, undecided)][1]} {formatting.verbatim(finding.title)}: {extent(finding, undecided)}"


def extent(finding: AuditFinding, undecided: Undecided | None) -> str:
    """'62 images in 30 groups', 'all 62 images decided', '12 of 62 images undecided, in 6 groups'."""
    grouped = finding.groups < finding.images
    whole = formatting.plural(finding.images, "image")
    if undecided is None or undecided.images == finding.images:
        return whole + (f" in {formatting.plural(finding.groups, 'group')}" if grouped else "")
    if not undecided.images:
        return f"all {whole} decided" if finding.images > 1 else f"{whole}, decided"
    groups = f", in {formatting.plural(undecided.groups, 'group')}" if grouped else ""
    return f"{undecided.images:,} of {whole} undecided{groups}"


def images_of(dataset: Dataset, finding: AuditFinding) -> None:
    """The gallery of a finding, group by group, with the bar of decisions."""
    key = f"audit-{dataset.name}-{finding.kind}"
    members = audit.finding_rows(dataset.name, finding.kind)
    table = cached_data.index_of(dataset)
    members["id"] = table["id"].to_numpy()[members["row"]]
    members["excluded"] = table["excluded"].to_numpy()[members["row"]]
    grouped = finding.groups < finding.images
    buttons, bar = st.container(horizontal=True, vertical_alignment="center"), st.container()
    grid = st.container()
    with buttons:
        page = selectors.page(-(-len(members) // PER_PAGE), key=f"page-{key}")
        shown = members.iloc[(page - 1) * PER_PAGE : page * PER_PAGE]
        if grouped:
            rest = members[members["group"].duplicated() & ~members["excluded"]]
            st.button(
                "Select all but the first of each group",
                icon=":material/library_add_check:",
                on_click=image_selection.preselect,
                args=(key, tuple(rest["id"])),
                disabled=rest.empty,
                help="On every page of this finding.",
            )
        st.button(
            "Select this page",
            icon=":material/check_box:",
            on_click=image_selection.preselect,
            args=(key, tuple(shown["id"])),
        )
        st.button(
            "Clear selection",
            icon=":material/check_box_outline_blank:",
            on_click=image_selection.preselect,
            args=(key, ()),
        )
        excluded = int(members["excluded"].sum())
        if excluded:
            st.caption(f"{excluded:,} of {len(members):,} are already excluded", width="content")
    groups = dict(zip(shown["id"], shown["group"] + 1, strict=True)) if grouped else {}
    with grid:
        selected = image_selection.dataset_gallery(
            dataset, table.iloc[shown["row"]], key=key, choosing=True, groups=groups
        )
    on_page = set(shown["id"])
    elsewhere = [image_id for image_id in st.session_state.get(f"preset-{key}", ()) if image_id not in on_page]
    with bar:
        curation_bar.curation_bar(dataset, (*selected, *elsewhere), key=key, reason=PROPOSED_REASONS.get(finding.kind))


def shortcuts(latest: Audit) -> None:
    """Show the strongest shortcut as a sentence, all of them on demand."""
    if not latest.shortcuts:
        return
    strongest = next((shortcut for shortcut in latest.shortcuts if shortcut.notable), None)
    if strongest is None:
        title, icon = "Shortcuts: no file property predicts a class well", ":material/check_circle:"
    else:
        _, icon, colour = SEVERITIES[strongest.severity]
        label = formatting.class_markdown(strongest.label).lower()
        title = f":{colour}[**Shortcut:** {TRAITS[strongest.trait]} predicts {label}, AUC {strongest.auc:.2f}]"
    with st.expander(title, icon=icon):
        if strongest is not None:
            st.markdown(
                f"**{formatting.verbatim(strongest.sentence)}** AUC {strongest.auc:.2f} on the "
                f"{formatting.split_title(strongest.split).lower()} images. "
                "A model that relies on it will fail on images from other sources."
            )
        shortcut_table(latest)


def shortcut_table(latest: Audit) -> None:
    st.caption(
        "How well one file property alone separates one class from the others: area under the ROC curve (AUC; 0.5 is chance, "
        "1 is perfect) with its 95 % interval (Hanley and McNeil, 1982)."
    )
    table = pd.DataFrame(
        {
            "Meaning": [shortcut.sentence for shortcut in latest.shortcuts],
            "Split": [formatting.split_title(shortcut.split) for shortcut in latest.shortcuts],
            "AUC": [shortcut.auc for shortcut in latest.shortcuts],
            "95 % interval": [f"{shortcut.ci95[0]:.2f} to {shortcut.ci95[1]:.2f}" for shortcut in latest.shortcuts],
            "Class": [formatting.class_title(shortcut.label) for shortcut in latest.shortcuts],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        column_config={"AUC": st.column_config.ProgressColumn(min_value=0.5, max_value=1.0, format="%.3f")},
        alt="How well each file property separates the classes, by split",
    )


st.title("Audit", anchor=False)
dataset = selectors.dataset_or_stop("Nothing to audit yet")
latest = audit.latest(dataset.name)
if latest is None:
    offer_audit(dataset)
    st.stop()
undecided = cached_data.undecided_of(dataset, latest)
summary(latest, undecided)
shortcuts(latest)
if not latest.findings:
    st.success("No other findings." if latest.shortcuts else "No findings.", icon=":material/check_circle:")
    st.stop()
findings = {finding.kind: finding for finding in latest.findings}
kind = url_state.choice(
    "Finding",
    list(findings),
    key="finding",
    titles={kind: list_row(finding, undecided.get(kind)) for kind, finding in findings.items()},
    former=lambda text: next((kind for kind, finding in findings.items() if f"{finding.title}:" in text), ""),
    widget=st.radio,
    label_visibility="collapsed",
)
st.caption(formatting.verbatim(findings[kind].meaning))
if kind == "unreadable":
    st.dataframe(list(dataset.skipped), hide_index=True, alt="Files left out, with the reason")
else:
    images_of(dataset, findings[kind])
