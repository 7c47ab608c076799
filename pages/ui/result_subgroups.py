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


def show(run: Run, split: str, predictions: PredictionSet, rule: DecisionRule | None) -> None:
    """Show accuracy and recall by group, for a decision rule; None: the highest probability."""
    st.subheader(
        "Accuracy by group",
        anchor=False,
        help="A model that uses the lungs should be about as accurate whatever the file is like.",
    )
    table = cached_metrics.subgroups_of(run, split, rule=rule)
    if table is None:
        st.info(
            f"The dataset '{formatting.verbatim(run.config.data)}' is not in this workspace, so nothing is known of its files.",
            icon=":material/info:",
        )
        return
    if table.empty:
        st.caption("There are too few images to be put into groups.")
        return
    differs = (table["difference_low"] > 0) | (table["difference_high"] < 0)
    accuracy = float(predictions.correct.mean())
    plotted = pd.DataFrame(
        {
            "name": [
                f"{trait}: {formatting.class_title(group) if trait == 'True class' else group}"
                for trait, group in zip(table["trait"], table["group"], strict=True)
            ],
            "value": table["accuracy"],
            "low": table["low"],
            "high": table["high"],
            "mark": differs.astype(int),
            "hover": [
                f"{row['n']:,} images: {row['accuracy']:.1%} right ({row['low']:.1%} to {row['high']:.1%})"
                for row in table.to_dict("records")
            ],
        }
    )
    st.plotly_chart(
        plots.forest(plotted, title="Accuracy with its 95 % interval", reference=accuracy, dark=dark()),
        config=plots.config(f"groups-{run.id}-{split}"),
        key=f"groups-{run.id}",
        alt="; ".join(plotted["name"] + " " + plotted["hover"]),
    )
    st.caption(
        f"Dotted: all images ({accuracy:.1%}). Diamonds differ from the rest beyond chance (Newcombe's 95 % interval); of "
        f"{len(table)} groups about {max(1, round(len(table) / 20))} would by luck alone."
    )
    recalls = {f"recall {name}": f"Recall, {formatting.class_title(name).lower()}" for name in predictions.classes}
    shown = table[["n", "accuracy", *recalls]].assign(
        group=plotted["name"],
        difference=[
            f"{100 * row['difference']:+.1f} ({100 * row['difference_low']:+.1f} to {100 * row['difference_high']:+.1f})"
            for row in table.to_dict("records")
        ],
    )
    shown[["accuracy", *recalls]] *= 100
    st.dataframe(
        shown,
        hide_index=True,
        column_order=["group", "n", "accuracy", "difference", *recalls],
        column_config={
            "group": "Group",
            "n": "Images",
            "accuracy": st.column_config.NumberColumn("Accuracy", format="%.1f %%"),
            "difference": st.column_config.TextColumn("Points from the rest", help="With Newcombe's 95 % interval."),
            **{name: st.column_config.NumberColumn(title, format="%.1f %%") for name, title in recalls.items()},
        },
        placeholder="–",
        alt="Accuracy and recall by group",
    )
