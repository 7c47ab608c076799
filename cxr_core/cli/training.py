"""`train` and `runs …`: start, watch, stop and delete trainings."""

import argparse
from dataclasses import replace
from typing import Any

from cxr_core.cli.data import build_options, built
from cxr_core.cli.terminal import Meter, answer, command, json_flag, pair, say
from cxr_core.data import datasets, manifest
from cxr_core.errors import WorkFailed
from cxr_core.jobs import queue
from cxr_core.models import catalogue
from cxr_core.runs import config as settings
from cxr_core.runs import folder as runs
from cxr_core.runs.folder import Run


def add_commands(commands: Any) -> None:
    train = command(commands, "train", "train a model on a dataset", _train)
    train.add_argument("--data", required=True, metavar="N", help="dataset")
    train.add_argument("--model", required=True, metavar="M", help=" | ".join(catalogue.MODELS))
    train.add_argument("--recipe", default="paper", help="how to train it")
    train.add_argument("--epochs", type=int, help="how many, instead of the recipe's")
    train.add_argument("--weights", help="starting weights, instead of the recipe's")
    train.add_argument("--manifest", metavar="ID", help="train on these frozen splits (see data build)")
    build_options(train)
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the recipe")
    train.add_argument("--wait", action="store_true", help="return when the training has ended")
    json_flag(train)
    work = command(commands, "work", "train a queued run in this process (used by the queue)", _work)
    work.add_argument("run", metavar="RUN")

    group = command(commands, "runs", "the trainings of this workspace, newest first", _runs_list)
    json_flag(group)
    actions = group.add_subparsers(metavar="COMMAND")
    for name, help_, action in (
        ("stop", "end a run; its best model so far is kept", _runs_stop),
        ("delete", "remove a run that has ended", _runs_delete),
    ):
        command(actions, name, help_, action).add_argument("run", metavar="RUN")


def _train(chosen: argparse.Namespace) -> None:
    changes = dict(pair(one) for one in chosen.set)
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
    config = replace(config, manifest=frozen.id, classes=frozen.classes)
    run_id = queue.submit(config)
    if chosen.wait:
        meter = Meter()
        run = queue.wait(run_id, lambda run: meter(_stage(run), run.status.batch, run.status.batches))
        if run.status.state != "finished":
            raise WorkFailed(f"Run {run_id} {run.status.state}: {run.status.reason}")
    answer(chosen, {"run": run_id}, run_id)


def _stage(run: Run) -> str:
    status = run.status
    epoch = f" epoch {status.epoch + 1} of {status.epochs}" if status.stage == "training" else ""
    return f"{status.stage or status.state}{epoch}"


def _work(chosen: argparse.Namespace) -> None:
    with queue.turn():  # whoever started this process still writes down that it did
        run = runs.get(chosen.run)
    from cxr_core.training.work import work

    work(run.id)
    queue.dispatch()


def _runs_list(chosen: argparse.Namespace) -> None:
    queue.dispatch()
    found = runs.every()
    lines = [f"{run.id}  {run.status.state}  epoch {run.status.epoch} of {run.status.epochs}" for run in found]
    answer(chosen, [_run_document(run) for run in found], "\n".join(lines) or "No runs yet. Start one with: train")
    for run_id, why in runs.damaged().items():
        say(f"{run_id} cannot be read. {why} To clear it: runs delete {run_id}")


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
        "epoch": run.status.epoch,
        "epochs": run.status.epochs,
        "metrics": {split: {name: figures[name] for name in kept} for split, figures in run.metrics.items()},
    }


def _runs_stop(chosen: argparse.Namespace) -> None:
    queue.stop(chosen.run)
    say(f"Asked run {chosen.run} to stop.")


def _runs_delete(chosen: argparse.Namespace) -> None:
    runs.delete(chosen.run)
    say(f"Deleted run {chosen.run}.")
