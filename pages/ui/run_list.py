"""Lists of runs: running and queued ones, by group and in the order of the queue, and ended ones."""

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.jobs import queue_state
from cxr_core.runs import groups, trash
from cxr_core.runs.groups import Group
from cxr_core.runs.run_store import Run
from pages.ui import messages, run_card

RECENT = 5
NEXT = 4  # cards of runs that wait; the rest of the queue is a table


def running(now: list[Run], all_groups: list[Group]) -> None:
    """Show cards of running runs and of the next ones, and a table of those that wait behind."""
    ids = {run.config.group for run in now if run.config.group}
    for group in all_groups:
        if group.id in ids:
            _group(group)
    for run in now:
        if run.status.state != "queued":
            run_card.card(run)
    waiting = queue_state.waiting_runs(now)
    for position, run in enumerate(waiting[:NEXT], start=1):
        run_card.card(run, position=position, waiting=len(waiting))
    if len(waiting) > NEXT:
        with st.expander(f"{len(waiting) - NEXT} more waiting", icon=":material/schedule:"):
            st.dataframe(
                pd.DataFrame({"Run": [run_card.title(run) for run in waiting[NEXT:]]}),
                alt="Waiting runs, in the order of the queue",
                hide_index=True,
            )


def _group(group: Group) -> None:
    active = groups.active(group.runs)
    with st.container(border=True, key=f"group-{group.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Group: {formatting.verbatim(group.title)}**", width="content")
            st.space("stretch")
            st.button("Stop all", key=f"stop-{group.id}", icon=":material/stop:", on_click=_stop_all, args=(active,))
        st.progress(
            group.done / len(group.runs), text=f"{group.done} of {formatting.plural(len(group.runs), 'run')} done"
        )


def _stop_all(active: list[Run]) -> None:
    for run in reversed(active):  # the last first, so that none of them starts meanwhile
        run_card.stop(run.id)


def ended(done: list[Run]) -> None:
    """Show the latest ended runs, and those that can be restored."""
    _undo()
    if not done:
        return
    st.subheader("Latest runs", anchor=False)
    for run in done[:RECENT]:
        run_card.card(run)
    if len(done) > RECENT:
        st.page_link(
            "pages/model/results.py",
            label=f"All {formatting.plural(len(done), 'run')} in Results",
            icon=":material/query_stats:",
        )


def _undo() -> None:
    deleted = trash.list_deleted()
    if not deleted:
        return
    latest = st.session_state.get("deleted-run", "")
    with st.expander(
        f"{formatting.plural(len(deleted), 'deleted run')}, restorable for {trash.RETENTION_DAYS} days",
        icon=":material/delete:",
        expanded=latest in deleted,
    ):
        for run_id in deleted[:20]:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(formatting.verbatim(run_id), width="content")
                st.button(
                    "Restore",
                    key=f"restore-{run_id}",
                    icon=":material/undo:",
                    on_click=messages.attempt,
                    args=(trash.restore, run_id),
                )
