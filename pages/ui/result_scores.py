"""Quality of the probabilities: curves with their areas, calibration before and after a temperature, histograms."""

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError
from cxr_core.evaluation import calibration, decision_rule, metrics, plots, rule_store
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics, result_threshold
from pages.ui.theme import dark


def _titles(predictions: PredictionSet) -> dict[str, str]:
    return {name: formatting.class_title(name) for name in predictions.classes}


def curves(run: Run, split: str, predictions: PredictionSet) -> None:
    """Show ROC and precision-recall of each class against the rest, and the areas with intervals."""
    rocs, recalls = plots.class_curves(predictions, _titles(predictions))
    if not rocs:
        st.info("A curve needs images of at least two classes in this split.", icon=":material/info:")
        return
    left, right = st.columns(2, gap="large")
    for column, title, draw, lines in (
        (left, "ROC, each class against the rest", plots.roc, rocs),
        (right, "Precision and recall", plots.precision_recall, recalls),
    ):
        with column:
            st.subheader(title, anchor=False)
            st.plotly_chart(
                draw(lines, dark=dark()),
                config=plots.config(f"{title.split(',')[0]}-{run.id}-{split}"),
                key=f"{title}-{run.id}",
                alt=f"{title}: " + "; ".join(line[0] for line in lines),
            )
    estimates = cached_metrics.metrics_of(run, split, cached_metrics.LEVELS, rule=None)
    rows = {
        formatting.class_markdown(name): {
            metrics.PER_CLASS[of]: formatting.estimate(estimates[f"{of}:{name}"], share=False) for of in ("auc", "ap")
        }
        for name in predictions.classes
    }
    rows["Mean"] = {
        metrics.PER_CLASS[of]: formatting.estimate(estimates[f"macro_{of}"], share=False) for of in ("auc", "ap")
    }
    st.table(pd.DataFrame.from_dict(rows, orient="index"))
    st.caption(
        f"95 % intervals: {estimates['macro_auc'].method}, 2,000 times within each class. **{metrics.PER_CLASS['auc']}**: "
        f"{metrics.DESCRIPTIONS['auc']} **{metrics.PER_CLASS['ap']}**: {metrics.DESCRIPTIONS['ap']}"
    )


def calibrated(run: Run, split: str, predictions: PredictionSet, rule: DecisionRule | None) -> None:
    """Show the reliability diagram and the temperature, for the predicted class of each image."""
    st.subheader(
        "Reliability diagram",
        anchor=False,
        help="Of the predictions with a confidence of 80 %, 80 % should be correct. The expected calibration error is the mean "
        "gap.",
    )
    st.caption(f"For the class predicted by {'the decision rule' if rule else 'highest probability'}.")
    try:
        saved = rule_store.saved(run.id)
        using = saved or (cached_metrics.fitted_of(run) if "val" in run.metrics else None)
    except CxrError as error:
        st.warning(formatting.verbatim(str(error)), icon=":material/error:")
        saved = using = None
    versions = {"Uncalibrated": predictions}
    if using is not None:
        versions[f"After temperature {using.temperature:.2f}"] = decision_rule.calibrated(
            predictions, using.temperature
        )
    left, right = st.columns([3, 2], gap="large")
    tables = {title: calibration.reliability(each.confidence, each.correct) for title, each in versions.items()}
    with left:
        st.plotly_chart(
            plots.reliability(tables, dark=dark()),
            config=plots.config(f"reliability-{run.id}-{split}"),
            key=f"reliability-{run.id}",
            alt="Reliability: "
            + "; ".join(
                f"confidence {row.confidence:.0%}, accuracy {row.share:.0%}"
                for row in next(iter(tables.values())).itertuples()
            ),
        )
    with right:
        _errors(run, split, using, rule)
        _temperature(run, using, saved=saved is not None)
    with st.expander("The diagram as a table"):
        st.dataframe(calibration.reliability_table(tables), hide_index=True, alt="Reliability")


def _errors(run: Run, split: str, using: DecisionRule | None, rule: DecisionRule | None) -> None:
    """Show the calibration errors before and after the temperature."""
    by_version = {
        "Uncalibrated": cached_metrics.metrics_of(run, split, cached_metrics.TERMS, rule=rule, temperature=1.0)
    }
    if using is not None:
        by_version["Calibrated"] = cached_metrics.metrics_of(
            run, split, cached_metrics.TERMS, rule=rule, temperature=using.temperature
        )
    rows = {
        metrics.TITLES[name]: {
            title: formatting.estimate(estimates[name], share=False) for title, estimates in by_version.items()
        }
        for name in ("ece", "brier", "log_loss")
    }
    st.table(pd.DataFrame.from_dict(rows, orient="index"))
    st.caption(
        "Lower is better. Calibration error: the mean gap between confidence and accuracy. Brier score and log loss also "
        f"penalise wrong predictions. In brackets 95 % intervals ({by_version['Uncalibrated']['brier'].method})."
    )


def _temperature(run: Run, using: DecisionRule | None, *, saved: bool) -> None:
    if using is None:
        st.caption("This run has no validation predictions, so no temperature can be fitted.")
        return
    n = len(cached_metrics.prediction_set_of(run, "val"))
    copies = " and their perturbed copies" if "shifted" in run.metrics else ""
    st.markdown(
        f"**Temperature {using.temperature:.2f}**, fitted on {formatting.plural(n, 'validation image')}{copies}: "
        + ("overconfident." if using.temperature > 1 else "underconfident.")
    )
    if n < 100:
        st.caption(":material/warning: So few validation images give a temperature that is mostly chance.")
    if not saved:
        st.button(
            "Save with the run", icon=":material/save:", key="keep-temperature", on_click=result_threshold.save, args=(run.id,),
            help="Its decision rule: Predict then shows calibrated probabilities.", disabled=run.is_bundled,
        )  # fmt: skip
    else:
        result_threshold.saved(run)


def histograms(run: Run, split: str, predictions: PredictionSet) -> None:
    """Show the distribution of the probability of each class by true class."""
    st.subheader("Probabilities by true class", anchor=False)
    present = [(code, name) for code, name in enumerate(predictions.classes) if predictions.support[code]]
    for column, (code, name) in zip(st.columns(len(predictions.classes)), enumerate(predictions.classes), strict=True):
        title = formatting.class_title(name)
        groups = {
            formatting.class_title(true): predictions.probabilities[predictions.true == true_code, code]
            for true_code, true in present
        }
        shades = [plots.class_colour(true, true_code) for true_code, true in present]
        with column:
            st.plotly_chart(
                plots.score_distributions(groups, shades, title=f"Probability of {title.lower()}", dark=dark()),
                config=plots.config(f"probability-of-{name}-{run.id}-{split}"),
                key=f"scores-{name}",
                alt=f"Probability of {title.lower()}: "
                + "; ".join(f"median {pd.Series(values).median():.2f} for {true}" for true, values in groups.items()),
            )
