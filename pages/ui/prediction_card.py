"""The prediction for one image: the image with its heatmap, the class, and the confidence."""

from collections.abc import Sequence
from contextlib import suppress

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError
from cxr_core.evaluation import plots
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.images import DecodedImage
from cxr_core.inference.predict import LoadedModel, Prediction
from pages.ui import cached_data, cached_metrics, heatmaps, messages, run_card
from pages.ui.theme import dark

IMAGE, HEATMAP = "image", "heatmap"


def show(
    model: LoadedModel,
    title: str,
    image: DecodedImage,
    answer: Prediction,
    *,
    others: Sequence[tuple[LoadedModel, Prediction]] = (),
    true: str = "",
) -> None:
    """Show the prediction beside its image.

    Args:
        image: may be reduced to what the model and a screen take.
        others: second opinions on it.
        true: its class, if that is known.
    """
    with st.container(border=True):
        left, right = st.columns([3, 2], gap="large")
        with left:  # on a phone the left column is the upper one
            passed = _passed(title, answer)
            if passed:
                _answer(model, title, answer, true)
                _opinions(model, answer, others)
                _exact(answer)
        with right:
            if passed:
                _picture(model, title, image, answer)
            else:
                st.image(cached_data.jpeg(image.grey), width="stretch", alt=f"The image {title}")
            height, width = image.shape
            st.caption(f"{formatting.verbatim(title)} · {width:,} × {height:,} pixels")
            if image.dicom and image.dicom.facts:
                st.caption(
                    " · ".join(
                        f"{name}: {formatting.verbatim(str(value))}" for name, value in image.dicom.facts.items()
                    )
                )


def _passed(title: str, answer: Prediction) -> bool:
    """Show the findings about the image and return whether its answer is to be shown."""
    if not answer.findings:
        return True
    for finding in answer.findings:
        if finding.refuses:
            st.error(formatting.verbatim(finding.text), icon=":material/block:")
        else:
            st.warning(formatting.verbatim(finding.text), icon=":material/warning:")
    if answer.refused:
        st.markdown("**No prediction is shown for this image**: it would mean nothing.")
        return False
    return st.toggle("Show the prediction anyway", key=f"override-{title}")


def _answer(model: LoadedModel, title: str, answer: Prediction, true: str) -> None:
    share = formatting.percent(answer.calibrated[answer.label])
    st.markdown(f"Prediction of the {'model' if len(model.members) == 1 else 'ensemble'}")
    if answer.confident:
        st.header(formatting.class_markdown(answer.label), anchor=False)
        st.markdown(f"with a probability of **{share}** {_meaning(model.rule)}.")
    else:
        st.header("Not confident", anchor=False)
        st.markdown(
            f"The nearest is **{formatting.class_markdown(answer.label)}** with **{share}** {_meaning(model.rule)}."
        )
    if answer.label != answer.most_probable:
        st.markdown(_by_threshold(model.rule, answer))
    _confidence(model, answer)
    if true:
        right = true == answer.label
        st.badge(
            f"{'Correct' if right else 'Wrong'}; true class: {formatting.class_markdown(true).lower()}",
            icon=":material/check:" if right else ":material/close:",
            color="green" if right else "red",
        )
    probabilities = answer.calibrated
    titles = {name: formatting.class_title(name) for name in probabilities}
    st.plotly_chart(
        plots.class_probabilities(probabilities, titles, dark=dark()),
        config=plots.config(f"probabilities-{title}"),
        key=f"probabilities-{title}",
        alt=", ".join(f"{titles[name]} {formatting.percent(value)}" for name, value in probabilities.items()),
    )
    if model.rule.threshold is not None:
        st.caption(_rule(model))


def _rule(model: LoadedModel) -> str:
    """The decision rule with its metrics on validation and test images, as a sentence."""
    metrics = []
    for split in ("val", "test"):
        with suppress(CxrError):  # it has none
            counts = cached_metrics.counts_of(model.run, split, model.rule)
            shares = {name: formatting.percent(share.value) for name, share in counts.items()}
            metrics.append(
                f"on {counts['coverage'].of:,} {formatting.split_title(split).lower()} images its sensitivity is "
                f"{shares['sensitivity']} and its specificity {shares['specificity']}, those of the confident answers "
                f"{shares['sensitivity_answered']} and {shares['specificity_answered']}"
            )
    return f":material/tune: Decision rule: {'; '.join([formatting.verbatim(formatting.decision_rule(model.rule)), *metrics])}."


def _by_threshold(rule: DecisionRule, answer: Prediction) -> str:
    """The reason why the answer is not the most probable class, as a sentence."""
    score = sum(answer.calibrated[name] for name in rule.positive)
    named = " and ".join(formatting.class_markdown(name).lower() for name in rule.positive)
    together = f"{named}{' together' if len(rule.positive) > 1 else ''}"
    where = "at least" if answer.label in rule.positive else "below"
    most_probable = formatting.class_markdown(answer.most_probable).lower()
    return (
        f"**{formatting.class_markdown(answer.label)}** by the tuned threshold: {together} have {formatting.percent(score)}, "
        f"{where} the {formatting.percent(rule.threshold)} of the threshold. The "
        f"most probable single class is {most_probable} ({formatting.percent(answer.calibrated[answer.most_probable])})."
    )


def _meaning(rule: DecisionRule) -> str:
    if rule.is_calibrated:
        return "(calibrated: of 100 images with such an answer, about so many should be of this class)"
    return "(uncalibrated)"


def _confidence(model: LoadedModel, answer: Prediction) -> None:
    """Show whether the answer is confident, and how accurate confident answers are on validation images."""
    least = model.rule.reject_threshold
    try:
        counts = cached_metrics.counts_of(model.run, "val", model.rule)
    except CxrError:  # it has none
        counts = {}
    if not least or not counts:
        st.caption(
            ":material/help: There are too few validation images, or too few errors on them, to know when this model is not "
            "confident."
        )
        return
    shares = {name: formatting.percent(share.value) for name, share in counts.items()}
    confident, n = counts["coverage"]
    sentence = (
        f"Of {n:,} validation images, {confident:,} had a confidence of at least {formatting.percent(least)}: accuracy "
        f"{formatting.estimate(counts['accuracy_answered'])} among these, {shares['accuracy_all']} of all."
    )
    if counts["sensitivity_confident"].of:
        sentence += (
            f" Sensitivity {shares['sensitivity_confident']}, specificity {shares['specificity_confident']} with all others "
            "counted as wrong."
        )
    if answer.confident:
        st.caption(f":material/verified: Confident. {sentence}")
    else:
        st.info(f"**Not confident.** {sentence}", icon=":material/help:")


def _picture(model: LoadedModel, title: str, image: DecodedImage, answer: Prediction) -> None:
    @st.fragment
    def chosen() -> None:
        view = st.segmented_control(
            "What to show", [HEATMAP, IMAGE], default=HEATMAP, required=True, key=f"way-{title}", persist_state="session",
            format_func={HEATMAP: "Heatmap", IMAGE: "Image"}.__getitem__, label_visibility="collapsed",
        )  # fmt: skip
        if view == IMAGE or not _heat(model, title, image, answer):
            st.image(cached_data.jpeg(image.grey), width="stretch", alt=f"The image {title}")

    chosen()


def _heat(model: LoadedModel, title: str, image: DecodedImage, answer: Prediction) -> bool:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = st.selectbox(
            "Class explained", model.classes, model.classes.index(answer.label), key=f"for-{title}",
            format_func=formatting.class_title, width=190,
            help="The heatmap shows which parts of the image raised the score of this class.",
        )  # fmt: skip
        opacity = st.slider(
            "Opacity", 0, 100, 60, 5, key=f"strength-{title}", persist_state="session", format="%d %%", width=150
        )
    try:
        overlay = heatmaps.laid_over(image.grey, model.attribution(image, label), opacity / 100)
    except CxrError as error:
        st.caption(f":material/info: {formatting.verbatim(str(error))}")
        return False
    st.image(
        overlay, width="stretch", alt=f"Heatmap for {formatting.class_title(label).lower()} over the image {title}"
    )
    st.caption(messages.HEATMAP_MEANING)
    return True


def _opinions(model: LoadedModel, answer: Prediction, others: Sequence[tuple[LoadedModel, Prediction]]) -> None:
    """Show the predictions of the members of an ensemble and of the models of a second opinion."""
    titles = run_card.titles([model.run, *(other.run for other, _ in others)])
    rows = [
        (f"Member {number}: {_named(run_id)}", answer.member_labels[run_id], probabilities)
        for number, (run_id, probabilities) in enumerate(answer.member_probabilities.items(), 1)
    ]
    rows += [(titles[other.run.id], opinion.label, opinion.calibrated) for other, opinion in others]
    if not rows:
        return
    agreeing = sum(label == answer.label for _, label, _ in rows)
    st.markdown(
        f"**Second opinions**: {agreeing} of {len(rows)} say {formatting.class_markdown(answer.label).lower()} too.",
        help="Each by its own decision rule.",
    )
    table = pd.DataFrame(
        [
            {
                "Model": name,
                "Prediction": formatting.class_title(predicted),
                **{formatting.class_title(label): share for label, share in probabilities.items()},
            }
            for name, predicted, probabilities in rows
        ]
    )
    share = st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent")
    columns = {formatting.class_title(label): share for label in model.classes}
    st.dataframe(table, hide_index=True, column_config=columns, alt="Prediction of each model")


def _named(run_id: str) -> str:
    return run_id.rsplit("-", 3)[0]


def _exact(answer: Prediction) -> None:
    with st.expander("Exact probabilities"):
        table = pd.DataFrame({"class": list(answer.probabilities)})
        table["probability"] = [f"{value:.7f}" for value in answer.probabilities.values()]
        if answer.calibrated != answer.probabilities:
            table["after calibration"] = [f"{value:.7f}" for value in answer.calibrated.values()]
        st.dataframe(table, hide_index=True, alt="Probability of each class to seven places")
        st.caption("Probability: the output of the network, as in its prediction tables.")
