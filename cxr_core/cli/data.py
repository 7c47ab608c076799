"""`data …`: datasets, their audit, decisions about their images, and manifests."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cxr_core import trash, workspace
from cxr_core.cli.terminal import ProgressMeter, command, json_flag, pair, path, print_note, print_result, whole
from cxr_core.data import append, audit, balancing, datasets, decisions, manifest, query, sources
from cxr_core.data.progress import no_progress, recorded_progress
from cxr_core.errors import BadInput
from cxr_core.formatting import plural
from cxr_core.jobs import background_jobs
from cxr_core.runs import run_store as runs


def add_commands(commands: Any) -> None:
    group = commands.add_parser("data", help="datasets").add_subparsers(required=True, metavar="COMMAND")
    add = command(group, "add", "add a dataset", _data_add)
    add.add_argument("source", metavar="SOURCE", help=f"{' | '.join(sources.SOURCES)} | a folder | a .zip")
    add.add_argument("--name", help="name of the dataset; by default the source's own")
    add.add_argument(
        "--more",
        action="store_true",
        help="add new images to the existing dataset --name; if it reads its images in a folder of yours, SOURCE is that folder",
    )
    add.add_argument("--images", type=whole(1), default=datasets.SYNTHETIC_IMAGES, help="number of synthetic images")
    add.add_argument(
        "--seed",
        type=whole(0, manifest.MAX_SEED),
        default=0,
        help=f"of the synthetic images, 0 to {manifest.MAX_SEED:,}",
    )
    add.add_argument("--labels", type=path, metavar="CSV", help="NIH's table of findings, if not in the folder itself")
    add.add_argument(
        "--finding",
        action="append",
        default=[],
        metavar="CLASS=A,B",
        help="NIH findings that make a class; without, all make 'abnormal'",
    )
    add.add_argument("--quiet", action="store_true", help="no progress on stderr")
    json_flag(add)
    json_flag(command(group, "list", "the datasets of this workspace", _data_list))
    show = command(group, "show", "classes, splits and counts of a dataset", _data_show)
    show.add_argument("name", metavar="N")
    json_flag(show)
    kept_for = f"for {trash.RETENTION_DAYS} days it can be restored"
    remove = command(group, "remove", f"remove a dataset with its own files; {kept_for}", _data_remove)
    remove.add_argument("name", metavar="N")
    remove.add_argument(
        "--for-good", action="store_true", help="delete its files now, and those of earlier ones of its name"
    )
    command(group, "restore", "bring a removed dataset back", _data_restore).add_argument("name", metavar="N")
    build = command(group, "build", "freeze decisions, splits and balance of a dataset as a manifest", _data_build)
    build.add_argument("name", metavar="N")
    build_options(build)
    json_flag(build)
    audit_ = command(group, "audit", "look for what may be wrong with a dataset", _data_audit)
    audit_.add_argument("name", metavar="N")
    audit_.add_argument("--quiet", action="store_true", help="no progress on stderr")
    json_flag(audit_)
    _decision_commands(group)


def _decision_commands(group: Any) -> None:
    for action, value in (("exclude", ""), ("relabel", "CLASS"), ("tag", "TAG")):
        words = decisions.ACTIONS[action]
        parser = command(group, action, f"{words[:1].lower()}{words[1:]}", _data_decide)
        parser.set_defaults(action=action, value="")
        parser.add_argument("name", metavar="N")
        if value:
            parser.add_argument("value", metavar=value)
        parser.add_argument("images", nargs="+", metavar="ID", help="of the index, as predictions and audits name them")
        _decision_options(parser)
    for action, words in (("undo", "undo a decision"), ("redo", "apply a decision that was undone again")):
        parser = command(group, action, words, _data_reverse)
        parser.set_defaults(action=action)
        parser.add_argument("name", metavar="N")
        parser.add_argument("number", type=whole(1), metavar="NUMBER")
        _decision_options(parser)
    record = command(group, "decisions", "the record of decisions about a dataset", _data_decisions)
    record.add_argument("name", metavar="N")
    json_flag(record)


def _decision_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="why, for later readers; saved with the decision")
    parser.add_argument(
        "--who",
        default=decisions.person(),
        metavar="NAME",
        help="who decides, saved with the decision; by default $CXR_PERSON",
    )
    json_flag(parser)


def build_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--balance", default="none", metavar="HOW", help=" | ".join(balancing.STRATEGIES))
    parser.add_argument(
        "--supplement",
        action="append",
        default=[],
        metavar="DATASET:CLASS=COUNT",
        help="add so many images of a class of another dataset to those that are trained on; a patient split takes some to val",
    )
    parser.add_argument("--split", default="official", help=" | ".join(manifest.SPLIT_RULES))
    parser.add_argument(
        "--val-fraction",
        type=float,
        metavar="F",
        help=f"share of val in a patient split, {manifest.LEAST_SHARE} to {manifest.MOST_SHARE}; by default {manifest.USUAL_SHARE}",
    )
    parser.add_argument(
        "--folds", type=whole(0), default=0, metavar="K", help="cross-validate: split the patients into K parts"
    )
    parser.add_argument("--fold", type=whole(0), default=0, metavar="I", help="number of the part that is val, from 1")
    parser.add_argument(
        "--seed",
        type=whole(0, manifest.MAX_SEED),
        default=0,
        help=f"of the split, and of the training, 0 to {manifest.MAX_SEED:,}",
    )


def _data_add(chosen: argparse.Namespace) -> None:
    progress = no_progress if chosen.quiet else ProgressMeter()
    findings = {label: names.split(",") for label, names in map(pair, chosen.finding)}
    if not chosen.source.strip():
        raise BadInput(f"A source is needed: {' | '.join(sources.SOURCES)} | a folder | a .zip. Received: ''.")
    name = "" if chosen.name is None else workspace.validate_name(chosen.name)
    options = {"images": chosen.images, "seed": chosen.seed, "labels": chosen.labels or "", "findings": findings}
    if chosen.more:
        grown = append.append_images(
            name or datasets.default_name(chosen.source), chosen.source, **options, progress=progress
        )
        _say_skipped(grown.skipped)
        document = {**asdict(grown.dataset), "added": grown.added, "known": grown.already_there}
        words = f"{plural(grown.already_there, 'image')} of the source {'is' if grown.already_there == 1 else 'are'} there already."
        print_result(chosen, document, f"Added {plural(grown.added, 'image')} to '{grown.dataset.name}'. {words}")
        return
    try:
        dataset = datasets.add(chosen.source, name, **options, progress=progress)
    finally:
        background_jobs.discard_upload(chosen.source)
    _say_skipped([(skipped["file"], skipped["reason"]) for skipped in dataset.skipped])
    if dataset.advice:
        print_note(dataset.advice)
    print_result(chosen, asdict(dataset), f"Added dataset '{dataset.name}': {_totals(dataset)}.")


def _say_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    if skipped:
        were = "was" if len(skipped) == 1 else "were"
        print_note(f"{plural(len(skipped), 'file')} {were} skipped; the first is {skipped[0][0]}: {skipped[0][1]}")


def _data_list(chosen: argparse.Namespace) -> None:
    listed = datasets.list_datasets()
    damaged = datasets.list_damaged()
    for why in damaged.values():
        print_note(why)
    lines = [f"{dataset.name}: {_totals(dataset)}" for dataset in listed]
    none = "No dataset can be read." if damaged else "No datasets yet. Add one with: data add synthetic"
    print_result(chosen, [asdict(dataset) for dataset in listed], "\n".join(lines) or none)


def _data_show(chosen: argparse.Namespace) -> None:
    dataset = datasets.get(chosen.name)
    lines = [f"{dataset.name}: {_totals(dataset)}"]
    for split, counts in dataset.counts.items():
        lines.append(f"{split:>6}: " + ", ".join(f"{count:,} {label}" for label, count in counts.items()))
    print_result(chosen, asdict(dataset), "\n".join(lines))


def _totals(dataset: datasets.Dataset) -> str:
    kind = "synthetic " if dataset.synthetic else ""
    return (
        f"{plural(dataset.images, kind + 'image')} of {plural(dataset.patients, 'patient')}, "
        f"{plural(len(dataset.skipped), 'file')} skipped"
    )


def _data_remove(chosen: argparse.Namespace) -> None:
    record = datasets.remove(chosen.name, for_good=chosen.for_good)
    learned = sum(run.config.data == chosen.name for run in runs.list_runs())
    kept = f" {learned} run{'' if learned == 1 else 's'} trained on it stay, with their results." if learned else ""
    decided = f" Its record of decisions is saved in {record}." if record else ""
    back = "" if chosen.for_good else f" For {trash.RETENTION_DAYS} days: data restore {chosen.name}"
    print_note(f"Removed dataset '{chosen.name}'.{decided}{kept}{back}")


def _data_restore(chosen: argparse.Namespace) -> None:
    print_note(f"Restored dataset '{chosen.name}': {_totals(datasets.restore(chosen.name))}.")


def _data_build(chosen: argparse.Namespace) -> None:
    frozen = built(chosen.name, chosen)
    if frozen.already_there:
        print_note(
            f"Already in '{frozen.data}', so not added: {plural(frozen.already_there, 'image')} of the supplements."
        )
    lines = [
        f"{split:<6} {sum(row.values()):>7,}   " + ", ".join(f"{label} {count:,}" for label, count in row.items())
        for split, row in frozen.counts.items()
    ]
    print_result(chosen, {"manifest": frozen.id, **asdict(frozen)}, "\n".join([f"Manifest {frozen.id}", *lines]))


def built(data: str, chosen: argparse.Namespace) -> manifest.Manifest:
    """The manifest that `build_options` ask for."""
    if chosen.val_fraction is not None and chosen.split != "patient":
        print_note(f"--val-fraction {chosen.val_fraction:g} is not used: the {chosen.split} split is taken as it is.")
    return manifest.build(
        data,
        split=chosen.split,
        val_fraction=manifest.USUAL_SHARE if chosen.val_fraction is None else chosen.val_fraction,
        seed=chosen.seed,
        balance=chosen.balance,
        supplements=[supplement(text) for text in chosen.supplement],
        folds=chosen.folds,
        fold=chosen.fold,
    )


def supplement(text: str) -> manifest.Supplement:
    match = re.fullmatch(r"([^:]+):(.+)=0*([1-9]\d*)", text)
    if match is None:
        raise BadInput(f"--supplement takes DATASET:CLASS=COUNT, such as nih:normal=200. Received: '{text}'.")
    return manifest.Supplement(match[1], match[2], int(match[3]))


def _data_audit(chosen: argparse.Namespace) -> None:
    progress = no_progress if chosen.quiet else ProgressMeter()
    job_folder = workspace.background_job(chosen.name)
    if job_folder.is_dir():  # a page started this and looks how far it is
        progress = recorded_progress(job_folder, progress)
    report = audit.run(chosen.name, progress=progress)
    left = audit.undecided(chosen.name, query.curated_index(chosen.name))
    lines = [
        f"{issue.severity:>6}  {issue.title}: {plural(issue.images, 'image')}, {plural(issue.groups, 'group')}"
        + (f", {left[issue.kind].images:,} left to decide" if issue.kind in left else "")
        for issue in report.findings
    ]
    lines += [
        f"  trait  AUC {trait.auc:.2f} on {trait.split}: {trait.sentence}"
        for trait in report.shortcuts
        if trait.notable
    ]
    document = {"data": report.data, "images": report.images, "made": report.made}
    document["issues"] = [
        {**asdict(issue), **({"left": asdict(left[issue.kind])} if issue.kind in left else {})}
        for issue in report.findings
    ]
    document["shortcuts"] = [{**asdict(trait), "meaning": trait.sentence} for trait in report.shortcuts]
    print_result(chosen, document, "\n".join(lines) or "Nothing stands out.")


def _data_decide(chosen: argparse.Namespace) -> None:
    decision = decisions.decide(
        chosen.name, chosen.action, chosen.images, value=chosen.value, reason=chosen.reason, who=chosen.who
    )
    print_result(chosen, asdict(decision), f"Recorded as decision {decision.number}.")


def _data_reverse(chosen: argparse.Namespace) -> None:
    reverse = decisions.undo if chosen.action == "undo" else decisions.redo
    decision = reverse(chosen.name, chosen.number, reason=chosen.reason, who=chosen.who)
    print_result(chosen, asdict(decision), f"Recorded as decision {decision.number}.")


def _data_decisions(chosen: argparse.Namespace) -> None:
    record = decisions.record(chosen.name)
    active = {decision.number for decision in decisions.in_force(chosen.name)}
    lines = [
        f"{decision.number:>4}  {decision.action:<8} {decision.value:<12} "
        f"{len(decision.images):>6,} images  {decision.who}  {decision.reason}"
        for decision in record
    ]
    document = [{**asdict(decision), "in_force": decision.number in active} for decision in record]
    print_result(chosen, document, "\n".join(lines) or "No decisions yet.")
