"""What the probabilities are worth: curves with their areas, calibration before and after a temperature, histograms."""

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError
from cxr_core.evaluation import calibration, fitted, metrics, plots
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics
from pages.ui.theme import dark


def _titles(answers: PredictionSet) -> dict[str, str]:
    return {name: formatting.class_title(name) for name in answers.classes}


def curves(run: Run, split: str, answers: PredictionSet) -> None:
    """ROC and precision-recall of each class against the rest, and the areas with intervals."""
    rocs, recalls = plots.class_curves(answers, _titles(answers))
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
    card = cached_metrics.metrics_of(run, split, cached_metrics.LEVELS)
    rows = {
        formatting.class_title(name): {
            metrics.PER_CLASS[of]: formatting.estimate(card[f"{of}:{name}"], share=False) for of in ("auc", "ap")
        }
        for name in answers.classes
    }
    rows["Mean"] = {
        metrics.PER_CLASS[of]: formatting.estimate(card[f"macro_{of}"], share=False) for of in ("auc", "ap")
    }
    st.table(pd.DataFrame.from_dict(rows, orient="index"))
    st.caption(
        f"95 % intervals: {card['macro_auc'].method}, 2,000 times within each class. **{metrics.PER_CLASS['auc']}**: "
        f"{metrics.DESCRIPTIONS['auc']} **{metrics.PER_CLASS['ap']}**: {metrics.DESCRIPTIONS['ap']}"
    )


def calibrated(run: Run, split: str, answers: PredictionSet, by: fitted.Point | None) -> None:
    """The reliability diagram and the temperature; of the class that each image is called."""
    st.subheader(
        "Do probabilities mean what they say?",
        anchor=False,
        help="Of the images that a network is 80 % sure of, 80 % should be right. The expected calibration error is the mean gap.",
    )
    st.caption(f"Of the {'class called at the operating point' if by else 'most probable class'}.")
    try:
        kept = fitted.temperature(run.id)
        offered = cached_metrics.temperature_of(run) if "val" in run.metrics else None
    except CxrError as error:
        st.warning(str(error), icon=":material/error:")
        kept = offered = None
    using = kept or offered
    versions = {"As the network says it": answers}
    if using is not None:
        versions[f"After temperature {using.value:.2f}"] = fitted.tempered(answers, using.value)
    left, right = st.columns([3, 2], gap="large")
    tables = {title: calibration.reliability(one.confidence, one.correct) for title, one in versions.items()}
    with left:
        st.plotly_chart(
            plots.reliability(tables, dark=dark()),
            config=plots.config(f"reliability-{run.id}-{split}"),
            key=f"reliability-{run.id}",
            alt="Reliability: "
            + "; ".join(
                f"sure to {row.confidence:.0%}, right {row.share:.0%}"
                for row in next(iter(tables.values())).itertuples()
            ),
        )
    with right:
        _errors(run, split, using, by)
        _temperature(run, kept, offered)
    with st.expander("The diagram as a table"):
        st.dataframe(calibration.reliability_table(tables), hide_index=True, alt="Reliability")


def _errors(run: Run, split: str, using: fitted.Temperature | None, by: fitted.Point | None) -> None:
    """What the probabilities are off by, as they are and after the temperature."""
    cards = {"As it is": cached_metrics.metrics_of(run, split, cached_metrics.TERMS, by=by)}
    if using is not None:
        cards["After"] = cached_metrics.metrics_of(run, split, cached_metrics.TERMS, heat=using.value, by=by)
    rows = {
        metrics.TITLES[name]: {title: formatting.estimate(card[name], share=False) for title, card in cards.items()}
        for name in ("ece", "brier", "log_loss")
    }
    st.table(pd.DataFrame.from_dict(rows, orient="index"))
    st.caption(
        "All three are best at 0. Calibration error: the mean gap between what is said and what is so. Brier score and log loss "
        f"also punish wrong answers. In brackets 95 % intervals ({cards['As it is']['brier'].method})."
    )


def _temperature(run: Run, kept: fitted.Temperature | None, offered: fitted.Temperature | None) -> None:
    if offered is None:
        st.caption("This run has no validation predictions, so no temperature can be fitted.")
        return
    st.markdown(
        f"**Temperature {offered.value:.2f}**, fitted on {formatting.plural(offered.images, 'validation image')}: "
        + ("the network is too sure." if offered.value > 1 else "the network is not sure enough.")
    )
    if offered.images < 100:
        st.caption(":material/warning: So few validation images give a temperature that is mostly chance.")
    if kept is None:
        st.button(
            "Keep it with the run", icon=":material/save:", key="keep-temperature", on_click=fitted.keep_temperature,
            args=(run.id,), help="Predict then shows probabilities after it.", disabled=run.is_bundled,
        )  # fmt: skip
    else:
        st.badge("Kept with the run", icon=":material/check:", color="green")
        if not run.is_bundled:
            st.button("Forget it", key="forget-temperature", on_click=fitted.forget, args=(run.id, "temperature"))


def histograms(run: Run, split: str, answers: PredictionSet) -> None:
    """How the probability of each class is spread among its own images and the others."""
    st.subheader("Probabilities by true class", anchor=False)
    for column, (code, name) in zip(st.columns(len(answers.classes)), enumerate(answers.classes), strict=True):
        title = formatting.class_title(name)
        groups = {
            formatting.class_title(other): answers.probabilities[answers.true == place, code]
            for place, other in enumerate(answers.classes)
            if answers.support[place]
        }
        shades = [
            plots.class_colour(other, place) for place, other in enumerate(answers.classes) if answers.support[place]
        ]
        with column:
            st.plotly_chart(
                plots.score_distributions(groups, shades, title=f"Probability of {title.lower()}", dark=dark()),
                config=plots.config(f"probability-of-{name}-{run.id}-{split}"),
                key=f"scores-{name}",
                alt=f"Probability of {title.lower()}: "
                + "; ".join(f"median {pd.Series(values).median():.2f} for {who}" for who, values in groups.items()),
            )
