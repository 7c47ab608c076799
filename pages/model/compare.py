"""Compare: two or more runs on the same images, and ensembles of them."""

from collections.abc import Sequence
from itertools import cycle

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError, sentence
from cxr_core.evaluation import comparison, curves, ensembles, metrics, plots, prediction_set, rule_store
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.evaluation.prediction_set import SharedImages
from cxr_core.models import catalogue
from cxr_core.runs import config
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics, image_drilldown, messages, result_export, run_card, url_state
from pages.ui.cached_metrics import RuledRun
from pages.ui.theme import dark

_SHADES = ("#2F8FCB", "#D55E00", "#009E73", "#B07D00", "#CC5A94", "#7A828C")


def chosen(usable: list[Run]) -> tuple[list[Run], str]:
    """The runs of the address or the boxes, and the split."""
    titles, by_id = run_card.titles(usable), {run.id: run for run in usable}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = url_state.choice("Run A", list(titles), key="a", kind="run", titles=titles, width=400)
        partners = _partners(by_id, first)
        second = url_state.choice(
            "Run B", partners, key="b", kind="run", titles=titles, width=400,
            former=lambda text: partners[0] if text == first else "",  # it is A now, and B is chosen anew
        )  # fmt: skip
        split = url_state.choice(
            "Split", ["test", "val", "train"], key="on", kind="split", titles=formatting.SPLITS, width=160
        )
        others = [run_id for run_id in titles if run_id not in (first, second)]
        more = url_state.choices("Further runs", others, key="more", titles=titles, widget=st.multiselect, width=400)
    return [by_id[run_id] for run_id in (first, second, *more)], split


def _partners(by_id: dict[str, Run], first: str) -> list[str]:
    """The other runs, those first that were trained on the same classes of the same dataset."""
    config = by_id[first].config

    def apart(run_id: str) -> bool:
        other = by_id[run_id].config
        return (other.data, other.classes) != (config.data, config.classes)

    return sorted((run_id for run_id in by_id if run_id != first), key=apart)


def pair(first: Run, second: Run, split: str) -> None:
    ruled = _ruled(first), _ruled(second)
    shared = _shared(*ruled, split)
    summary = f"{formatting.plural(len(shared), 'image')} that both have answered (A {shared.images[0]:,}, B {shared.images[1]:,})."
    if shared.relabelled:
        summary += f" {formatting.plural(shared.relabelled, 'image')} with another true class in each are left out."
    st.markdown(summary)
    for letter, (_, rule) in zip("AB", ruled, strict=True):
        st.caption(f"Decision rule of {letter}: {formatting.verbatim(formatting.decision_rule(rule))}.")
    differences = cached_metrics.differences_of(*ruled, split)
    points = cached_metrics.points_of(*ruled, split)
    rows = {
        title: {
            "A": _point(points[0][name], name),
            "B": _point(points[1][name], name),
            "B − A": formatting.difference(differences[name], share=metrics.is_percentage(name)),
        }
        for name, title in metrics.TITLES.items()
    }
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.table(pd.DataFrame.from_dict(rows, orient="index"))
        st.caption(f"95 % intervals: paired {differences['accuracy'].method}, 2,000 times within each class.")
        messages.metric_meanings(metrics.TITLES)
    with right:
        test, (agreeing, kappa) = comparison.mcnemar(*shared.members), comparison.agreement(*shared.members)
        st.markdown(
            f"- Only A right: **{test.first_only:,}**, only B right: **{test.second_only:,}**. McNemar's exact test: "
            f"**p = {test.p:.3g}**, {'more than chance' if test.p < 0.05 else 'may be chance'}.\n"
            f"- Same prediction for **{agreeing:.1%}** of the images, Cohen's kappa {kappa:.2f}.",
            help="McNemar's test asks whether chance alone could make one run right so much more often on the images on which "
            "only one of them is; below p = 0.05 that is unlikely. Cohen's kappa is the agreement beyond chance: 1 is perfect, "
            "0 is none.",
        )
        settings = comparison.settings({"A": first.config, "B": second.config})
        if len(settings):
            st.markdown("Settings that differ")
            st.dataframe(settings.rename(index=_titled), alt="Settings that differ")


def _ruled(run: Run) -> tuple[Run, DecisionRule]:
    """A run with its decision rule."""
    return run, rule_store.of_run(run.id)


def _shared(first: RuledRun, second: RuledRun, split: str) -> SharedImages:
    """Predictions of two runs on the images that both have, each by its rule."""
    return prediction_set.shared_images(
        [cached_metrics.decided_set_of(run, split, rule) for run, rule in (first, second)]
    )


def _titled(name: str) -> str:
    """The title of a setting, as on the Train page."""
    setting = config.SETTINGS.get(name)
    return setting.metadata["title"] if setting else name.capitalize()


def differing(first: Run, second: Run, split: str) -> None:
    """Show the images on which the two differ, with the predictions of the one that is wrong."""
    st.subheader("Disagreements", anchor=False)
    ruled = _ruled(first), _ruled(second)
    first_set, second_set = _shared(*ruled, split).members
    titles = {"a": "A right, B wrong", "b": "B right, A wrong", "both": "Both wrong"}
    correct = url_state.choice(
        "Images", list(titles), key="who", titles=titles, default="a",
        widget=st.segmented_control, required=True, label_visibility="collapsed",
    )  # fmt: skip
    mask = {
        "a": comparison.only_correct(first_set, second_set),
        "b": comparison.only_correct(second_set, first_set),
        "both": ~first_set.correct & ~second_set.correct,
    }[correct]
    run, rule = ruled[1 if correct == "a" else 0]
    st.caption(f"Predictions of {'B' if correct == 'a' else 'A'}.")
    metadata = cached_metrics.image_metadata_of(run, split)
    predictions = cached_metrics.decided_set_of(run, split, rule)
    mask = pd.Index(predictions.ids).isin(first_set.ids[mask])
    image_drilldown.show(run, predictions, metadata, mask, key=f"pair-{first.id}-{second.id}-{split}-{correct}")


def further(several: list[Run], split: str) -> None:
    """Show the differences of runs beyond B from A, on the images that each shares with A."""
    names = ("accuracy", "macro_f1", "balanced_accuracy", "macro_auc")
    rows = {}
    for letter, run in zip(_letters(several[2:], start=2), several[2:], strict=True):
        ruled = _ruled(several[0]), _ruled(run)
        differences = cached_metrics.differences_of(*ruled, split, cached_metrics.COUNTS + cached_metrics.LEVELS)
        shared = _shared(*ruled, split)
        rows[f"{letter}: {run_card.title(run)}"] = {
            "Images": f"{len(shared):,}",
            **{
                metrics.TITLES[name]: formatting.difference(differences[name], share=metrics.is_percentage(name))
                for name in names
            },
            "McNemar's p": f"{comparison.mcnemar(*shared.members).p:.3g}",
        }
    st.markdown("**Further runs − A**, with 95 % intervals")
    st.dataframe(pd.DataFrame.from_dict(rows, orient="index"), alt="Further runs − A")


def _letters(several: Sequence[Run], *, start: int = 0) -> str:
    """ "ABC" for three runs."""
    return "".join(chr(ord("A") + start + number) for number in range(len(several)))


def _point(value: float, name: str) -> str:
    text = formatting.estimate(metrics.Estimate(value, None, None, ""), share=metrics.is_percentage(name))
    return text.replace(" ", "\u00a0")  # on a phone the per cent stays with its number


def overlaid(several: list[Run], split: str) -> None:
    """Show the curves of one class of every run."""
    st.subheader("Curves", anchor=False)
    classes = several[0].config.classes
    name = url_state.choice(
        "Class against the rest",
        list(classes),
        key="curves-class",
        address="class",
        kind="class",
        titles={label: formatting.class_title(label) for label in classes},
        width=260,
    )
    shared = prediction_set.shared_images([cached_metrics.prediction_set_of(run, split) for run in several])
    rocs, recalls = [], []
    for letter, shade, run, predictions in zip(
        _letters(several), cycle(_SHADES), several, shared.members, strict=False
    ):
        positive, score = (
            predictions.true == predictions.code(name),
            predictions.probabilities[:, predictions.code(name)],
        )
        false, true, _ = curves.roc(positive, score)
        precision, recall, _ = curves.precision_recall(positive, score)
        label = f"{letter}: {_short(run)}"
        rocs.append((f"{label}, area {curves.auc(positive, score):.3f}", shade, false, true))
        recalls.append((f"{label}, average {curves.average_precision(positive, score):.3f}", shade, recall, precision))
    st.caption(f"On {formatting.plural(len(shared), 'image')} that all {len(several)} have answered.")
    titles = ("ROC", "Precision and recall")
    for column, title, draw, lines, key in zip(
        st.columns(2, gap="large"),
        titles,
        (plots.roc, plots.precision_recall),
        (rocs, recalls),
        ("roc", "recall"),
        strict=True,
    ):
        with column:
            st.markdown(f"**{title}**")
            st.plotly_chart(
                draw(lines, dark=dark()), config=plots.config(f"{key}-of-{name}-{split}"), key=f"overlaid-{key}",
                alt="; ".join(line[0] for line in lines),
            )  # fmt: skip


def _short(run: Run) -> str:
    """A name that fits a legend on a phone; the letter before it says which run is meant."""
    return formatting.shortened_end(run.name or catalogue.title(run.config.model), 22)


def together(several: list[Run]) -> None:
    """Make an ensemble of the chosen runs."""
    st.subheader("Ensemble", anchor=False)
    method = url_state.choice(
        "Method", list(ensembles.METHODS), key="ensemble-way", address="way", default="mean",
        titles={name: name.capitalize() for name in ensembles.METHODS}, widget=st.segmented_control, required=True,
        help=" ".join(f"**{name}**: {meaning}" for name, meaning in ensembles.METHODS.items()),
    )  # fmt: skip
    if st.button(f"Make an ensemble of {len(several)} runs", icon=":material/join:"):
        run_id = ensembles.create([run.id for run in several], method)
        ensemble = ensembles.of_run(run_id)
        if method == "weighted" and ensemble is not None:
            pairs = zip(_letters(several), ensemble.weights, strict=True)
            weights = ", ".join(f"{letter} {weight:.0%}" for letter, weight in pairs)
            st.markdown(f"Weights by the validation images: {weights}.")
        st.toast("The ensemble is in the leaderboard.", icon=":material/check:")
        st.page_link(
            "pages/model/results.py", label="Its results", icon=":material/query_stats:", query_params={"run": run_id}
        )


st.title("Compare", anchor=False)
messages.disclaimer()
usable = [run for run in runs.list_runs() if run.has_predictions]
if len(usable) < 2:
    for only in usable:
        messages.synthetic_mark(only.config.data)
        st.markdown(f"So far there is one: {formatting.verbatim(run_card.title(only))}.")
    messages.no_model("Nothing to compare yet", "A comparison needs two runs with results.")
    st.stop()
several, split = chosen(usable)
for name in sorted({run.config.data for run in several}):
    messages.synthetic_mark(name)
try:
    pair(several[0], several[1], split)
    if several[2:]:
        further(several, split)
    overlaid(several, split)
    differing(several[0], several[1], split)
    together(several)
    st.subheader("Export", anchor=False)
    result_export.report_button(several, split)
    messages.save_plot_hint()
except (CxrError, OSError) as error:
    st.error(formatting.verbatim(sentence(error)), icon=":material/error:")
