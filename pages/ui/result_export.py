"""Export of a run: the report and the predictions."""

import streamlit as st

from cxr_core import csv_export, formatting
from cxr_core.evaluation import report
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs.run_store import Run


def show(run: Run, split: str, predictions: PredictionSet) -> None:
    st.subheader("Export", anchor=False)
    st.markdown(
        f"The report is one file that opens without internet and prints on A4: data, network, and all metrics on the "
        f"{formatting.split_title(split).lower()} images with their intervals. The table has one row per image: file, true class, "
        "and the probability of each class."
    )
    with st.container(horizontal=True):
        report_button([run], split)
        st.download_button(
            "Predictions as CSV", lambda: csv_export.csv(predictions.table()), f"{run.id}-{split}.csv", "text/csv",
            icon=":material/table:", key="csv", on_click="ignore",
        )  # fmt: skip


def report_button(several: list[Run], split: str) -> None:
    """Offer the report of one run, or of several compared; it is written when the button is clicked."""
    ids = [run.id for run in several]
    name = ids[0] if len(ids) == 1 else f"comparison-of-{len(ids)}-runs"
    st.download_button(
        "Report as HTML", lambda: report.html(ids, split=split).encode(), f"{name}-{split}.html", "text/html",
        icon=":material/description:", key="report", on_click="ignore", type="primary",
    )  # fmt: skip
