"""The command line: everything that the pages do, by the same functions.

With `--json` one JSON document goes to stdout and nothing else; all other words go to stderr.
Exit codes: 0 done, 1 the work failed, 2 bad arguments or bad input; then one sentence on stderr.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from cxr_core import __version__, workspace
from cxr_core.data import audit, balancing, datasets, decisions, manifest, sources
from cxr_core.data.progress import Progress, silent
from cxr_core.data.shortcuts import NOTABLE
from cxr_core.errors import BadInput, CxrError, WorkFailed
from cxr_core.jobs import queue
from cxr_core.models import catalogue
from cxr_core.runs import config as settings
from cxr_core.runs import folder as runs
from cxr_core.runs.folder import Run

DISCLAIMER = "Research software, not a medical device: no output of it may guide the care of a patient."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        chosen = _parser().parse_args(arguments)
        chosen.work(chosen)
        return 0
    except CxrError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message[:1].upper()}{message[1:].rstrip('.')}. See: {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m cxr_core", description=f"Chest X-ray workbench. {DISCLAIMER}")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _data_commands(commands)
    _train_commands(commands)
    _result_commands(commands)
    return parser


def _command(group: Any, name: str, help_: str, work: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(name, help=help_, description=help_)
    parser.set_defaults(work=work)
    return parser


def _json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _data_commands(commands: Any) -> None:
    group = commands.add_parser("data", help="datasets").add_subparsers(required=True, metavar="COMMAND")
    add = _command(group, "add", "add a dataset", _data_add)
    add.add_argument("source", metavar="SOURCE", help=f"{' | '.join(sources.SOURCES)} | a folder | a .zip")
    add.add_argument("--name", default="", help="what to call it")
    add.add_argument("--images", type=int, default=datasets.SYNTHETIC_IMAGES, help="how many, for synthetic")
    add.add_argument("--seed", type=int, default=0, help="of the synthetic images")
    add.add_argument("--labels", default="", metavar="CSV", help="NIH's table of findings, if not in the folder itself")
    add.add_argument(
        "--finding",
        action="append",
        default=[],
        metavar="CLASS=A,B",
        help="NIH findings that make a class; without, all make 'abnormal'",
    )
    add.add_argument("--quiet", action="store_true", help="no progress on stderr")
    _json_flag(add)
    _json_flag(_command(group, "list", "the datasets of this workspace", _data_list))
    show = _command(group, "show", "classes, splits and counts of a dataset", _data_show)
    show.add_argument("name", metavar="N")
    _json_flag(show)
    remove = _command(group, "remove", "forget a dataset and delete its own files", _data_remove)
    remove.add_argument("name", metavar="N")
    build = _command(group, "build", "freeze decisions, splits and balance of a dataset as a manifest", _data_build)
    build.add_argument("name", metavar="N")
    _build_options(build)
    _json_flag(build)
    audit_ = _command(group, "audit", "look for what may be wrong with a dataset", _data_audit)
    audit_.add_argument("name", metavar="N")
    _json_flag(audit_)
    _decision_commands(group)


def _decision_commands(group: Any) -> None:
    for action, value in (("exclude", ""), ("relabel", "CLASS"), ("tag", "TAG")):
        words = decisions.ACTIONS[action]
        parser = _command(group, action, f"{words[:1].lower()}{words[1:]}", _data_decide)
        parser.set_defaults(action=action, value="")
        parser.add_argument("name", metavar="N")
        if value:
            parser.add_argument("value", metavar=value)
        parser.add_argument("images", nargs="+", metavar="ID", help="of the index, as predictions and audits name them")
        _decision_options(parser)
    for action, words in (("undo", "take a decision back"), ("redo", "put a decision back in force")):
        parser = _command(group, action, words, _data_reverse)
        parser.set_defaults(action=action)
        parser.add_argument("name", metavar="N")
        parser.add_argument("number", type=int, metavar="NUMBER")
        _decision_options(parser)
    record = _command(group, "decisions", "the record of decisions about a dataset", _data_decisions)
    record.add_argument("name", metavar="N")
    _json_flag(record)


def _decision_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="kept with the decision")
    parser.add_argument("--who", default="", help="kept with the decision")
    _json_flag(parser)


def _build_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--balance", default="none", metavar="HOW", help=" | ".join(balancing.STRATEGIES))
    parser.add_argument(
        "--supplement",
        action="append",
        default=[],
        metavar="DATASET:CLASS=COUNT",
        help="add so many images of a class of another dataset to the training images",
    )
    parser.add_argument("--split", default="official", help=" | ".join(manifest.SPLIT_RULES))
    parser.add_argument("--val-fraction", type=float, default=0.15, help="share of val in a patient split")
    parser.add_argument("--seed", type=int, default=0, help="of the split, and of the training")


def _train_commands(commands: Any) -> None:
    train = _command(commands, "train", "train a model on a dataset", _train)
    train.add_argument("--data", required=True, metavar="N", help="dataset")
    train.add_argument("--model", required=True, metavar="M", help=" | ".join(catalogue.MODELS))
    train.add_argument("--recipe", default="paper", help="how to train it")
    train.add_argument("--epochs", type=int, help="how many, instead of the recipe's")
    train.add_argument("--weights", help="starting weights, instead of the recipe's")
    train.add_argument("--manifest", metavar="ID", help="train on these frozen splits (see data build)")
    _build_options(train)
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the recipe")
    train.add_argument("--wait", action="store_true", help="return when the training has ended")
    _json_flag(train)
    work = _command(commands, "work", "train a queued run in this process (used by the queue)", _work)
    work.add_argument("run", metavar="RUN")

    group = _command(commands, "runs", "the trainings of this workspace, newest first", _runs_list)
    _json_flag(group)
    actions = group.add_subparsers(metavar="COMMAND")
    for name, help_, action in (
        ("stop", "end a run; its best model so far is kept", _runs_stop),
        ("delete", "remove a run that has ended", _runs_delete),
    ):
        _command(actions, name, help_, action).add_argument("run", metavar="RUN")


def _result_commands(commands: Any) -> None:
    evaluate = _command(commands, "evaluate", "figures of a run on one split", _evaluate)
    evaluate.add_argument("run", metavar="RUN")
    evaluate.add_argument("--split", default="test", help="train, val or test")
    _json_flag(evaluate)
    predict = _command(commands, "predict", f"classify image files. {DISCLAIMER}", _predict)
    predict.add_argument("run", metavar="RUN")
    predict.add_argument("files", nargs="+", metavar="FILE")
    _json_flag(predict)
    _json_flag(_command(commands, "doctor", "what this machine has: devices, data, versions", _doctor))


def _data_add(chosen: argparse.Namespace) -> None:
    progress = silent if chosen.quiet else _Meter()
    findings = {label: found.split(",") for label, found in map(_pair, chosen.finding)}
    dataset = datasets.add(
        chosen.source,
        chosen.name,
        images=chosen.images,
        seed=chosen.seed,
        labels=chosen.labels,
        findings=findings,
        progress=progress,
    )
    if dataset.skipped:
        first = dataset.skipped[0]
        _say(f"{len(dataset.skipped)} files were skipped; the first is {first['file']}: {first['reason']}")
    _answer(chosen, asdict(dataset), f"Added dataset '{dataset.name}': {_totals(dataset)}.")


def _data_list(chosen: argparse.Namespace) -> None:
    found = [datasets.get(name) for name in datasets.names()]
    lines = [f"{one.name}: {_totals(one)}" for one in found]
    _answer(
        chosen, [asdict(one) for one in found], "\n".join(lines) or "No datasets yet. Add one with: data add synthetic"
    )


def _data_show(chosen: argparse.Namespace) -> None:
    dataset = datasets.get(chosen.name)
    lines = [f"{dataset.name}: {_totals(dataset)}"]
    for split, counts in dataset.counts.items():
        lines.append(f"{split:>6}: " + ", ".join(f"{count:,} {label}" for label, count in counts.items()))
    _answer(chosen, asdict(dataset), "\n".join(lines))


def _totals(dataset: datasets.Dataset) -> str:
    kind = " synthetic" if dataset.synthetic else ""
    return f"{dataset.images:,}{kind} images of {dataset.patients:,} patients, {len(dataset.skipped)} files skipped"


def _data_remove(chosen: argparse.Namespace) -> None:
    datasets.remove(chosen.name)
    _say(f"Removed dataset '{chosen.name}'.")


def _data_build(chosen: argparse.Namespace) -> None:
    built = _built(chosen.name, chosen)
    _answer(chosen, {"manifest": built.id, **asdict(built)}, f"Manifest {built.id}: {built.counts}")


def _built(data: str, chosen: argparse.Namespace) -> manifest.Manifest:
    return manifest.build(
        data,
        split=chosen.split,
        val_fraction=chosen.val_fraction,
        seed=chosen.seed,
        balance=chosen.balance,
        supplements=[_supplement(one) for one in chosen.supplement],
    )


def _supplement(text: str) -> manifest.Supplement:
    match = re.fullmatch(r"([^:]+):(.+)=(\d+)", text)
    if match is None:
        raise BadInput(f"--supplement takes DATASET:CLASS=COUNT, such as nih:normal=200. Received: '{text}'.")
    return manifest.Supplement(match[1], match[2], int(match[3]))


def _data_audit(chosen: argparse.Namespace) -> None:
    found = audit.run(chosen.name, progress=_Meter())
    lines = [f"{one.severity:>6}  {one.title}: {one.images:,} images, {one.groups:,} groups" for one in found.findings]
    lines += [
        f"  trait  AUC {one.auc:.2f} on {one.split}: {one.sentence}" for one in found.shortcuts if one.auc >= NOTABLE
    ]
    document = {"data": found.data, "images": found.images, "made": found.made}
    document["issues"] = [asdict(one) for one in found.findings]
    document["shortcuts"] = [{**asdict(one), "meaning": one.sentence} for one in found.shortcuts]
    _answer(chosen, document, "\n".join(lines) or "Nothing stands out.")


def _data_decide(chosen: argparse.Namespace) -> None:
    made = decisions.decide(
        chosen.name, chosen.action, chosen.images, value=chosen.value, reason=chosen.reason, who=chosen.who
    )
    _answer(chosen, asdict(made), f"Recorded as decision {made.number}.")


def _data_reverse(chosen: argparse.Namespace) -> None:
    reverse = decisions.undo if chosen.action == "undo" else decisions.redo
    made = reverse(chosen.name, chosen.number, reason=chosen.reason, who=chosen.who)
    _answer(chosen, asdict(made), f"Recorded as decision {made.number}.")


def _data_decisions(chosen: argparse.Namespace) -> None:
    made = decisions.record(chosen.name)
    active = {one.number for one in decisions.in_force(chosen.name)}
    lines = [
        f"{one.number:>4}  {one.action:<8} {one.value:<12} {len(one.images):>6,} images  {one.who}  {one.reason}"
        for one in made
    ]
    document = [{**asdict(one), "in_force": one.number in active} for one in made]
    _answer(chosen, document, "\n".join(lines) or "No decisions yet.")


def _train(chosen: argparse.Namespace) -> None:
    changes = dict(_pair(one) for one in chosen.set)
    for name in ("epochs", "weights"):
        if getattr(chosen, name) is not None:
            changes[name] = getattr(chosen, name)
    changes.setdefault("seed", chosen.seed)
    frozen = manifest.get(chosen.data, chosen.manifest) if chosen.manifest else _built(chosen.data, chosen)
    config = settings.make(
        model=chosen.model,
        recipe=chosen.recipe,
        data=chosen.data,
        manifest=frozen.id,
        classes=frozen.classes,
        settings=changes,
    )
    run_id = queue.submit(config)
    if chosen.wait:
        meter = _Meter()
        run = queue.wait(run_id, lambda run: meter(_stage(run), run.status.batch, run.status.batches))
        if run.status.state != "finished":
            raise WorkFailed(f"Run {run_id} {run.status.state}: {run.status.reason}")
    _answer(chosen, {"run": run_id}, run_id)


def _stage(run: Run) -> str:
    status = run.status
    epoch = f" epoch {status.epoch + 1} of {status.epochs}" if status.stage == "training" else ""
    return f"{status.stage or status.state}{epoch}"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set and --finding take key=value, such as --set dropout=0.3. Received: '{text}'.")
    return name.strip(), value.strip()


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
    _answer(chosen, [_run_document(run) for run in found], "\n".join(lines) or "No runs yet. Start one with: train")


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
    _say(f"Asked run {chosen.run} to stop.")


def _runs_delete(chosen: argparse.Namespace) -> None:
    runs.delete(chosen.run)
    _say(f"Deleted run {chosen.run}.")


def _evaluate(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import metrics, predictions

    table = predictions.read(runs.predictions_path(chosen.run, chosen.split))
    figures = metrics.evaluate(table)
    low, high = figures["ci95"]["accuracy"]
    words = (
        f"{metrics.report(table).to_string(float_format='%.2f')}\n\n"
        f"accuracy {figures['accuracy']:.3f}, 95 % interval {low:.3f} to {high:.3f}, n = {figures['n']:,}"
    )
    _answer(chosen, figures, words)


def _predict(chosen: argparse.Namespace) -> None:
    from cxr_core import images
    from cxr_core.inference.predictor import Predictor

    predictor = Predictor.load(chosen.run)
    results: list[dict[str, Any]] = []
    for file in chosen.files:
        try:
            found = predictor.of_image(images.read(Path(file)))
            results.append(
                {"file": file, "label": max(found, key=found.__getitem__), "probabilities": found, "warnings": []}
            )
        except CxrError as error:
            results.append({"file": file, "error": str(error)})
    lines = [
        f"{one['file']}: {one['error']}" if "error" in one else f"{one['file']}: {one['label']} {one['probabilities']}"
        for one in results
    ]
    _answer(chosen, {"results": results, "run": chosen.run, "disclaimer": DISCLAIMER}, "\n".join([*lines, DISCLAIMER]))
    if all("error" in one for one in results):
        raise BadInput("None of the files could be read.")


def _doctor(chosen: argparse.Namespace) -> None:
    from cxr_core.training import environment

    document = {
        **environment.describe(),
        "home": str(workspace.home()),
        "datasets": datasets.names(),
        "runs": len(runs.ids()),
    }
    _answer(chosen, document, "\n".join(f"{name}: {value}" for name, value in document.items()))


def _answer(chosen: argparse.Namespace, document: Any, words: str) -> None:
    print(json.dumps(document, indent=1, allow_nan=False) if chosen.json else words)


def _say(words: str) -> None:
    print(words, file=sys.stderr)


class _Meter(Progress):
    """Progress on stderr: a line that counts up on a terminal, one line per stage elsewhere."""

    def __init__(self) -> None:
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if total and done == total else ""
            print(
                f"\r\x1b[K{stage} {done:,} of {total:,}" if total else f"\r\x1b[K{stage} …",
                end=end,
                file=sys.stderr,
                flush=True,
            )
        elif stage != self._stage:
            _say(f"{stage} …")
        self._stage = stage
