"""Train: choose architectures, data and settings, start trainings, and watch them."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from cxr_core import formatting, machine
from cxr_core.data import datasets, manifest
from cxr_core.data.datasets import Dataset
from cxr_core.errors import BadInput, CxrError
from cxr_core.jobs import queue, sweep
from cxr_core.models import catalogue, recipes
from cxr_core.runs import config as settings
from cxr_core.runs import groups
from cxr_core.runs import run_store as runs
from cxr_core.runs.config import RunConfig
from pages.ui import app_shell, messages, model_card, run_card, run_list, selectors
from pages.ui.settings_form import settings_form

RULES = {**formatting.SPLIT_RULES, "manifest": "From a manifest"}
FIRST_LOOK = 10  # epochs proposed for a network that learns as a whole, which takes long on a processor


@dataclass(frozen=True)
class Splits:
    """The chosen data: a manifest, or how to build one (`rule` is a key of SPLIT_RULES, `fraction` that of validation)."""

    dataset: Dataset
    rule: str
    fraction: float
    frozen: manifest.Manifest | None

    @property
    def images(self) -> dict[str, int]:
        """About how many images each split has; decisions are not counted."""
        if self.frozen:
            return {split: sum(by_class.values()) for split, by_class in self.frozen.counts.items()}
        counts = {split: sum(by_class.values()) for split, by_class in self.dataset.counts.items()}
        if self.rule == "patient":
            pool = counts.get("train", 0) + counts.get("val", 0)
            counts |= {"train": round(pool * (1 - self.fraction)), "val": round(pool * self.fraction)}
        return counts


def follow_link() -> None:
    """Choose the manifest that a link to this page names as "dataset:manifest", once for each link."""
    linked = st.query_params.get("manifest", "")
    if not linked or linked == st.session_state.get("manifest-linked"):
        return
    st.session_state["manifest-linked"] = linked
    data, _, manifest_id = linked.partition(":")
    if data not in datasets.list_names() or manifest_id not in (built.id for built in manifest.list_manifests(data)):
        st.warning(f"There is no manifest '{formatting.verbatim(linked)}'.", icon=":material/search_off:")
        return
    st.session_state.update(
        {"train_data": data, f"train_split-{data}": "manifest", f"train_manifest-{data}": manifest_id}
    )


def data_panel() -> Splits:
    with st.container(border=True):
        st.markdown("**Data**")
        follow_link()
        names = datasets.list_names()
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.selectbox("Dataset", names, key="train_data", persist_state="session", width=320)
            dataset = datasets.get(name)
            messages.synthetic_notice(dataset)
            usual = "patient" if has_small_validation(dataset) else "official"
            rule = st.selectbox(
                "Validation split",
                list(RULES),
                list(RULES).index(usual),
                format_func=RULES.__getitem__,
                key=f"train_split-{name}",
                persist_state="session",
                width=320,
                help="They select the best epoch. " + " ".join(manifest.SPLIT_RULES.values()),
            )
            fraction = manifest.USUAL_SHARE
            if rule == "patient":
                fraction = st.slider(
                    "Validation fraction", 0.05, 0.40, 0.15, 0.05, key="train_share", persist_state="session", width=240
                )
        if rule == "official" and has_small_validation(dataset):
            val = dataset.counts.get("val", {})
            missing = [formatting.class_markdown(name).lower() for name in dataset.classes if not val.get(name)]
            st.caption(
                f":material/warning: Only {formatting.plural(sum(val.values()), 'validation image')}"
                + (f", none of {' or '.join(missing)}" if missing else "")
                + ". Too few to select an epoch: use a new patient-wise split, except to repeat the paper's table."
            )
        return Splits(dataset, rule, fraction, chosen_manifest(name) if rule == "manifest" else None)


def has_small_validation(dataset: Dataset) -> bool:
    """Check whether the official validation split is too small to select an epoch, as the paper's of sixteen images is."""
    val = dataset.counts.get("val", {})
    return sum(val.values()) < 100 or not all(val.values())


def chosen_manifest(data: str) -> manifest.Manifest:
    """The chosen manifest of those built on the Curate page.

    Raises:
        BadInput: there is none.
    """
    manifests = {built.id: built for built in manifest.list_manifests(data)}
    if not manifests:
        raise BadInput(f"No manifest of '{data}' has been built yet. Build one on the Curate page.")
    manifest_id = st.selectbox(
        "Manifest",
        list(manifests),
        format_func=lambda name: f"{name}: {manifests[name].split} split, balance {manifests[name].balance}",
        key=f"train_manifest-{data}",
        persist_state="session",
    )
    chosen = manifests[manifest_id]
    counts = (f"{formatting.split_title(split)}: {sum(row.values()):,} images" for split, row in chosen.counts.items())
    st.caption("; ".join(counts) + ".")
    return chosen


def networks_panel(splits: Splits, ended: list[runs.Run]) -> list[RunConfig]:
    """Show a card for each chosen network; return their settings, or none while one of them cannot be started."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Architectures",
            list(catalogue.MODELS),
            default=["custom_cnn"],
            format_func=catalogue.title,
            key="train_models",
            persist_state="session",
            width=620,
            help="One or several; each is trained in a run of its own, one after the other.",
        )
        recipe = st.segmented_control(
            "Recipe",
            list(recipes.SUMMARIES),
            default="paper",
            required=True,
            format_func={"paper": "As in the paper", "tuned": "Tuned"}.__getitem__,
            key="train_recipe",
            persist_state="session",
        )
    st.caption(recipes.SUMMARIES[recipe])
    where = (
        ", ".join(f"{formatting.verbatim(gpu.name)} ({gpu.memory_gb:.0f} GB)" for gpu in machine.list_gpus())
        or "this machine's processor; no graphics card found"
    )
    st.caption(f":material/memory: Trains on {where}.")
    if not chosen:
        st.info("Choose at least one architecture.", icon=":material/model_training:")
    configs = []
    for start in range(0, len(chosen), 2):
        for column, name in zip(st.columns(2), chosen[start : start + 2], strict=False):
            with column, st.container(border=True):
                try:
                    configs.append(network(name, recipe, splits, ended))
                except CxrError as error:  # of this card; the others stay as they are
                    st.error(formatting.verbatim(str(error)), icon=":material/error:")
    return configs if len(configs) == len(chosen) else []


def network(name: str, recipe: str, splits: Splits, ended: list[runs.Run]) -> RunConfig:
    """Show one architecture's card: starting weights, settings, cost; return its settings."""
    entry = catalogue.get(name)
    model_card.heading(entry)
    weights = model_card.starting_weights(entry)
    fitting = recipes.get(recipe, model=name, weights=weights)
    proposed = proposals(fitting, splits)
    key = f"{splits.dataset.name}-{name}-{recipe}-{weights}"
    epochs = st.number_input(
        "Epochs",
        1,
        1000,
        proposed["epochs"],
        key=f"train_epochs-{name}-{recipe}-{weights}",
        persist_state="session",
        help=settings.SETTINGS["epochs"].metadata["help"],
        width=160,
    )
    with st.expander("Advanced settings", icon=":material/tune:"):
        changes = settings_form(proposed, key=f"train_{key}", leave_out=("epochs", "weights"))
    config = settings.make(
        model=name,
        recipe=recipe,
        data=splits.dataset.name,
        manifest="",
        classes=splits.frozen.classes if splits.frozen else splits.dataset.classes,
        settings={**changes, "weights": weights, "epochs": epochs},
    )
    usual = {name: fitting.settings.get(name, settings.SETTINGS[name].default) for name in ("batch_size", "epochs")}
    if config.batch_size < usual["batch_size"] and changes["batch_size"] == proposed["batch_size"]:
        st.caption(
            f":material/info: Small dataset: a batch size of {config.batch_size} instead of {usual['batch_size']} gives an epoch "
            "enough steps. The advanced settings change it."
        )
    if proposed["epochs"] < usual["epochs"] and epochs == FIRST_LOOK:
        st.caption(
            f":material/info: {FIRST_LOOK} epochs are proposed for a first look; the recipe has up to {usual['epochs']}, "
            "which take that much longer."
        )
    model_card.facts(entry, config, splits.images, ended)
    model_card.layers(entry)
    return config


def proposals(recipe: recipes.Recipe, splits: Splits) -> dict[str, Any]:
    """The recipe's settings, with a batch for small sets and fewer epochs where each takes long."""
    proposed: dict[str, Any] = {name: setting.default for name, setting in settings.SETTINGS.items()}
    usual = int(proposed["batch_size"])
    proposed |= recipe.settings
    proposed["batch_size"] = recipes.batch_size(recipe, usual=usual, images=splits.images.get("train", 0))
    if proposed["trained"] == catalogue.ALL:
        proposed["epochs"] = min(proposed["epochs"], FIRST_LOOK)
    return proposed


def repeats() -> tuple[list[int], int]:
    """Seeds, and folds of a cross-validation, to measure how much a metric varies by chance."""
    with st.expander("Repeat: several seeds, cross-validation", icon=":material/repeat:"):
        st.caption(
            "How much does a metric vary by chance? Train with several seeds, or by cross-validation. The runs form one group, "
            "shown with its mean and stopped together."
        )
        with st.container(horizontal=True):
            seeds = st.number_input(
                "Seeds",
                1,
                20,
                1,
                key="train_seeds",
                persist_state="session",
                width=200,
                help="Number of runs that differ only in their seed.",
            )
            folds = st.selectbox(
                "Cross-validation",
                [0, 3, 5, 10],
                format_func=lambda count: f"{count} folds, by patient" if count else "None",
                key="train_folds",
                persist_state="session",
                width=240,
                help="Every training image is in the validation fold of exactly one run; no patient is in two folds.",
            )
    return list(range(seeds)), folds


def start(configs: list[RunConfig], splits: Splits, seeds: list[int], folds: int) -> None:
    repeated = [settings.with_settings(config, {"seed": config.seed + seed}) for config in configs for seed in seeds]
    if len(repeated) == 1 and not folds:
        config = repeated[0]
        frozen = splits.frozen or manifest.build(
            splits.dataset.name, split=splits.rule, val_fraction=splits.fraction, seed=config.seed
        )
        queue.submit(settings.with_manifest(config, frozen.id, frozen.classes))
    elif splits.frozen and not folds:
        sweep.submit_on_manifests(repeated, [splits.frozen])
    else:
        rule = "patient" if folds else splits.rule
        sweep.submit(repeated, folds=folds, split=rule, val_fraction=splits.fraction)
    count = len(repeated) * max(1, folds)
    subject = "The training was" if count == 1 else f"{count} trainings were"
    waiting = sum(run.status.state == "queued" for run in runs.list_runs())
    outcome = f"queued; {waiting} wait now" if waiting else "started"
    st.toast(f"{subject} {outcome}. It continues when you leave this page.", icon=":material/play_arrow:")


def form(all_runs: list[runs.Run]) -> bool:
    """Show the form; whether it has started a training just now."""
    splits = data_panel()
    above = st.container()  # beside the choice of networks, not below all their cards
    configs = networks_panel(splits, all_runs)
    with above, st.container(horizontal=True, vertical_alignment="center"):
        seeds, folds = repeats()
        count = len(configs) * len(seeds) * max(1, folds)
        label = "Start training" if count < 2 else f"Start {count} trainings"
        if st.button(label, type="primary", icon=":material/play_arrow:", disabled=not configs):
            start(configs, splits, seeds, folds)
            return True
    return False


def watch(read: list[list[runs.Run]]) -> None:
    """Redraw the running and queued runs every second, and the whole page when one of them ends.

    Args:
        read: the runs as the page has read them just now, taken out by the first drawing; each later one reads anew.
    """
    all_runs = read.pop() if read else app_shell.start_waiting_runs(notice=False)
    active = [run for run in all_runs if run.status.at_work]
    run_list.running(active, groups.list_groups(all_runs))
    before = st.session_state.get("watched", set())
    st.session_state["watched"] = {run.id for run in active}
    for run_id in before - st.session_state["watched"]:
        if run_id in runs.list_ids():
            ended = runs.get(run_id)
            link = f" [Results](/results?run={run_id})" if ended.has_predictions else ""
            icon = formatting.RUN_STATES[ended.status.state][1]
            st.toast(f"{formatting.verbatim(run_card.title(ended))}: {ended.status.state}.{link}", icon=icon)
    if before != st.session_state["watched"]:
        st.rerun()


st.title("Train", anchor=False)
if not datasets.list_names():
    selectors.no_dataset("Nothing to train on yet")
all_runs = runs.list_runs()
try:
    if form(all_runs):
        all_runs = runs.list_runs()
except CxrError as error:
    st.error(formatting.verbatim(str(error)), icon=":material/error:")
messages.paper_citation()
st.page_link(
    "pages/model/leaderboard.py",
    label="All three models of the paper at once, and its Table 4.1: Leaderboard",
    icon=":material/replay:",
)
st.subheader("Running", anchor=False)
busy = any(run.status.at_work for run in all_runs)
if not busy:
    st.caption("No training is running.")
st.fragment(watch, run_every=1.0 if busy else None)([all_runs])
run_list.ended([run for run in all_runs if not run.status.at_work])
