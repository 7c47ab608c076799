"""Results by group of images, so that a shortcut shows."""

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.evaluation import plots
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics
from pages.ui.theme import dark


def show(run: Run, split: str, answers: PredictionSet, rule: DecisionRule | None) -> None:
    """Of the answers by this decision rule; None: the highest probability."""
    st.subheader(
        "Accuracy by group",
        anchor=False,
        help="A model that uses the lungs should be about as accurate whatever the file is like.",
    )
    table = cached_metrics.subgroups_of(run, split, rule=rule)
    if table is None:
        st.info(
            f"The dataset '{run.config.data}' is not in this workspace, so nothing is known of its files.",
            icon=":material/info:",
        )
        return
    if table.empty:
        st.caption("There are too few images to be put into groups.")
        return
    apart = ((table["difference_low"] > 0) | (table["difference_high"] < 0)).to_numpy()
    accuracy = float(answers.correct.mean())
    drawn = pd.DataFrame(
        {
            "name": [
                f"{trait}: {formatting.class_title(group) if trait == 'True class' else group}"
                for trait, group in zip(table["trait"], table["group"], strict=True)
            ],
            "value": table["accuracy"],
            "low": table["low"],
            "high": table["high"],
            "mark": apart.astype(int),
            "hover": [
                f"{row.n:,} images: {row.accuracy:.1%} right ({row.low:.1%} to {row.high:.1%})"
                for row in table.itertuples()
            ],
        }
    )
    st.plotly_chart(
        plots.forest(drawn, title="Accuracy with its 95 % interval", reference=accuracy, dark=dark()),
        config=plots.config(f"groups-{run.id}-{split}"),
        key=f"groups-{run.id}",
        alt="; ".join(drawn["name"] + " " + drawn["hover"]),
    )
    st.caption(
        f"Dotted: all images ({accuracy:.1%}). Diamonds differ from the rest beyond chance (Newcombe's 95 % interval); of "
        f"{len(table)} groups about {max(1, round(len(table) / 20))} would by luck alone."
    )
    told = table.assign(
        group=drawn["name"],
        apart=[
            f"{100 * row.difference:+.1f} ({100 * row.difference_low:+.1f} to {100 * row.difference_high:+.1f})"
            for row in table.itertuples()
        ],
    ).drop(columns=["trait", "right", "difference", "difference_low", "difference_high"])
    recalls = [name for name in told if name.startswith("recall ")]
    told[["accuracy", *recalls]] *= 100
    share = {"format": "%.1f %%"}
    st.dataframe(
        told,
        hide_index=True,
        column_order=["group", "n", "accuracy", "apart", *recalls],
        column_config={
            "group": "Group",
            "n": "Images",
            "accuracy": st.column_config.NumberColumn("Accuracy", **share),
            "apart": st.column_config.TextColumn("Points from the rest", help="With Newcombe's 95 % interval."),
            **{
                name: st.column_config.NumberColumn(
                    f"Recall, {formatting.class_title(name.removeprefix('recall ')).lower()}", **share
                )
                for name in recalls
            },
        },
        placeholder="–",
        alt="Accuracy and recall by group",
    )
