"""Compare: two or more runs on the same images, and ensembles of them."""

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError
from cxr_core.evaluation import comparison, curves, ensembles, metrics, plots, prediction_set, rule_store
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.models import catalogue
from cxr_core.runs import config
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics, image_drilldown, messages, result_export, run_card, url_state
from pages.ui.theme import dark

_SHADES = ("#2F8FCB", "#D55E00", "#009E73", "#B07D00", "#CC5A94", "#7A828C")


def chosen(usable: list[Run]) -> tuple[list[Run], str]:
    """The runs of the address or the boxes, and the split."""
    named, by_id = run_card.titles(usable), {run.id: run for run in usable}
    ids = list(named)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = url_state.choice("Run A", ids, key="a", kind="run", titles=named, width=400)
        partners = _partners(by_id, first)
        second = url_state.choice(
            "Run B", partners, key="b", kind="run", titles=named, width=400,
            former=lambda text: partners[0] if text == first else "",  # it is A now, and B is chosen anew
        )  # fmt: skip
        split = url_state.choice(
            "Split", ["test", "val", "train"], key="on", kind="split", titles=formatting.SPLITS, width=160
        )
        others = [one for one in ids if one not in (first, second)]
        more = url_state.choices("Further runs", others, key="more", titles=named, widget=st.multiselect, width=400)
    return [by_id[one] for one in (first, second, *more)], split


def _partners(by_id: dict[str, Run], first: str) -> list[str]:
    """The other runs, those first that have learned the same classes from the same dataset."""
    config = by_id[first].config

    def apart(run_id: str) -> bool:
        other = by_id[run_id].config
        return (other.data, other.classes) != (config.data, config.classes)

    return sorted((run_id for run_id in by_id if run_id != first), key=apart)


def pair(first: Run, second: Run, split: str) -> None:
    rules = _rules(first, second)
    shared = prediction_set.shared_images([cached_metrics.decided_set_of(run, split, rule) for run, rule in rules])
    one, other = shared.members
    told = f"{formatting.plural(len(shared), 'image')} that both have answered (A {shared.images[0]:,}, B {shared.images[1]:,})."
    if shared.relabelled:
        told += " " + f" {formatting.plural(shared.relabelled, 'image')} with another true class in each are left out."
    st.markdown(told)
    for letter, (_, rule) in zip("AB", rules, strict=True):
        st.caption(f"Decision rule of {letter}: {formatting.decision_rule(rule)}.")
    differences = cached_metrics.differences_of(*rules, split)
    points = cached_metrics.points_of(*rules, split)
    rows = {
        title: {
            "A": _told(points[0][name], name),
            "B": _told(points[1][name], name),
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
        test, (alike, kappa) = comparison.mcnemar(one, other), comparison.agreement(one, other)
        st.markdown(
            f"- Only A right: **{test.first_only:,}**, only B right: **{test.second_only:,}**. McNemar's exact test: "
            f"**p = {test.p:.3g}**, {'more than chance' if test.p < 0.05 else 'may be chance'}.\n"
            f"- Same prediction for **{alike:.1%}** of the images, Cohen's kappa {kappa:.2f}.",
            help="McNemar's test asks whether chance alone could make one run right so much more often on the images on which "
            "only one of them is; below p = 0.05 that is unlikely. Cohen's kappa is the agreement beyond chance: 1 is perfect, "
            "0 is none.",
        )
        settings = comparison.settings({"A": first.config, "B": second.config})
        if len(settings):
            st.markdown("Settings that differ")
            st.dataframe(settings.rename(index=_titled), alt="Settings that differ")


def _rules(*several: Run) -> list[tuple[Run, DecisionRule]]:
    """Each run with the rule by which it answers."""
    return [(run, rule_store.of_run(run.id)) for run in several]


def _titled(name: str) -> str:
    """What a setting is called on the Train page."""
    found = config.SETTINGS.get(name)
    return found.metadata["title"] if found else name.capitalize()


def differing(first: Run, second: Run, split: str) -> None:
    """The images behind the difference, as one of the two answered them."""
    st.subheader("Disagreements", anchor=False)
    rules = _rules(first, second)
    one, other = prediction_set.shared_images(
        [cached_metrics.decided_set_of(run, split, rule) for run, rule in rules]
    ).members
    titles = {"a": "A right, B wrong", "b": "B right, A wrong", "both": "Both wrong"}
    way = url_state.choice(
        "Images", list(titles), key="who", titles=titles, default="a",
        widget=st.segmented_control, required=True, label_visibility="collapsed",
    )  # fmt: skip
    inside = {
        "a": comparison.only_correct(one, other),
        "b": comparison.only_correct(other, one),
        "both": ~one.correct & ~other.correct,
    }[way]
    (run, rule), said = (rules[1], other) if way == "a" else (rules[0], one)
    st.caption(f"Predictions of {'B' if way == 'a' else 'A'}.")
    about = cached_metrics.image_metadata_of(run, split)
    full = cached_metrics.decided_set_of(run, split, rule)
    wanted = pd.Index(full.ids).isin(said.ids[inside])
    image_drilldown.show(run, full, about, wanted, key=f"pair-{first.id}-{second.id}-{split}-{way}")


def further(first: Run, several: list[Run], split: str) -> None:
    """Runs beyond B, each less A on the images that it shares with A."""
    rows = {}
    for place, run in enumerate(several, start=2):
        letter = chr(65 + place)
        rules = _rules(first, run)
        less = cached_metrics.differences_of(*rules, split, cached_metrics.COUNTS + cached_metrics.LEVELS)
        one, other = prediction_set.shared_images(
            [cached_metrics.decided_set_of(each, split, rule) for each, rule in rules]
        ).members
        names = ("accuracy", "macro_f1", "balanced_accuracy", "macro_auc")
        rows[f"{letter}: {run_card.title(run)}"] = {
            "Images": f"{len(one):,}",
            **{
                metrics.TITLES[name]: formatting.difference(less[name], share=metrics.is_percentage(name))
                for name in names
            },
            "McNemar's p": f"{comparison.mcnemar(one, other).p:.3g}",
        }
    st.markdown("**Further runs − A**, with 95 % intervals")
    st.dataframe(pd.DataFrame.from_dict(rows, orient="index"), alt="Further runs − A")


def _told(value: float, name: str) -> str:
    said = formatting.estimate(metrics.Estimate(value, None, None, ""), share=metrics.is_percentage(name))
    return said.replace(" ", "\u00a0")  # on a phone the per cent stays with its number


def overlaid(several: list[Run], split: str) -> None:
    """One class's curves of every run."""
    st.subheader("Curves", anchor=False)
    classes = several[0].config.classes
    name = url_state.choice(
        "Class against the rest",
        list(classes),
        key="curves-class",
        address="class",
        kind="class",
        titles={one: formatting.class_title(one) for one in classes},
        width=260,
    )
    shared = prediction_set.shared_images([cached_metrics.prediction_set_of(run, split) for run in several])
    rocs, recalls = [], []
    for place, (run, one) in enumerate(zip(several, shared.members, strict=True)):
        own, score = one.true == one.code(name), one.probabilities[:, one.code(name)]
        false, true, _ = curves.roc(own, score)
        precision, recall, _ = curves.precision_recall(own, score)
        who, shade = f"{chr(65 + place)}: {_short(run)}", _SHADES[place % 6]
        rocs.append((f"{who}, area {curves.auc(own, score):.3f}", shade, false, true))
        recalls.append((f"{who}, average {curves.average_precision(own, score):.3f}", shade, recall, precision))
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
    way = url_state.choice(
        "Method", list(ensembles.METHODS), key="ensemble-way", address="way", default="mean",
        titles={name: name.capitalize() for name in ensembles.METHODS}, widget=st.segmented_control, required=True,
        help=" ".join(f"**{one}**: {meaning}" for one, meaning in ensembles.METHODS.items()),
    )  # fmt: skip
    if st.button(f"Make an ensemble of {len(several)} runs", icon=":material/join:"):
        made = ensembles.create([run.id for run in several], way)
        found = ensembles.of_run(made)
        if way == "weighted" and found is not None:
            shares = ", ".join(f"{chr(65 + place)} {weight:.0%}" for place, weight in enumerate(found.weights))
            st.markdown(f"Weights by the validation images: {shares}.")
        st.toast("The ensemble is in the leaderboard.", icon=":material/check:")
        st.page_link(
            "pages/model/results.py", label="Its results", icon=":material/query_stats:", query_params={"run": made}
        )


st.title("Compare", anchor=False)
messages.disclaimer()
usable = [run for run in runs.list_runs() if run.has_predictions]
if len(usable) < 2:
    for only in usable:
        messages.synthetic_mark(only.config.data)
        st.markdown(f"So far there is one: {run_card.title(only)}.")
    messages.empty(
        "Nothing to compare yet", "A comparison needs two runs with results.", page="pages/model/train.py",
        link="Train a model", icon=":material/model_training:",
    )  # fmt: skip
    st.stop()
several, split = chosen(usable)
for name in sorted({run.config.data for run in several}):
    messages.synthetic_mark(name)
try:
    pair(several[0], several[1], split)
    if several[2:]:
        further(several[0], several[2:], split)
    overlaid(several, split)
    differing(several[0], several[1], split)
    together(several)
    st.subheader("Export", anchor=False)
    result_export.report_button(several, split)
    messages.save_plot_hint()
except (CxrError, OSError) as error:
    st.error(str(error), icon=":material/error:")
