"""`evaluate`, `compare`, `ensemble`, `report`, `doctor`: metrics of runs, and the state of this machine."""

import argparse
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_core import machine, workspace
from cxr_core.cli.terminal import command, json_flag, path, print_result
from cxr_core.data import datasets, features
from cxr_core.errors import BadInput
from cxr_core.runs import run_store as runs

if TYPE_CHECKING:
    from cxr_core.evaluation.decision_rule import DecisionRule
    from cxr_core.evaluation.metrics import Estimate


def add_commands(commands: Any) -> None:
    evaluate = command(commands, "evaluate", "metrics of a run on one split, with their intervals", _evaluate)
    evaluate.add_argument("run", metavar="RUN")
    evaluate.add_argument("--split", default="test", help="train, val, shifted or test")
    json_flag(evaluate)
    compare = command(
        commands, "compare", "two runs, each by its decision rule, on the images that both have predicted", _compare
    )
    compare.add_argument("runs", nargs=2, metavar="RUN")
    compare.add_argument("--split", default="test", help="train, val, shifted or test")
    json_flag(compare)
    ensemble = command(commands, "ensemble", "combine several runs into an ensemble, itself a run", _ensemble)
    ensemble.add_argument("runs", nargs="+", metavar="RUN")
    ensemble.add_argument("--way", default="mean", help="mean, weighted (weights from validation) or vote")
    json_flag(ensemble)
    calibrate = command(commands, "calibrate", "fit the decision rule of a run and save it", _calibrate)
    calibrate.add_argument("run", metavar="RUN")
    calibrate.add_argument(
        "--sensitivity",
        type=float,
        default=0.0,
        metavar="S",
        help="share of the positives to find on validation, as 0.95",
    )
    calibrate.add_argument(
        "--positive", nargs="+", default=[], metavar="CLASS", help="by default the classes that are not normal"
    )
    json_flag(calibrate)
    report = command(commands, "report", "one HTML file on a run, or on several compared", _report)
    report.add_argument("runs", nargs="+", metavar="RUN")
    report.add_argument("--out", type=path, required=True, metavar="FILE.html")
    report.add_argument("--split", default="test", help="train, val, shifted or test")
    json_flag(report)
    json_flag(command(commands, "doctor", "what this machine has: devices, data, versions", _doctor))


def _evaluate(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import confusion, decision_metrics, image_metadata, metrics, prediction_set, rule_store
    from cxr_core.evaluation.decision_rule import calibrated, decided

    answers, rule = prediction_set.read(chosen.run, chosen.split), rule_store.of_run(chosen.run)
    patients = image_metadata.patients(answers, runs.get(chosen.run).config.data)
    decision = decision_metrics.document(answers, rule)
    words = [*filter(None, [rule.notice]), f"Decision rule: {rule.describe()}", *_decision_lines(decision)]
    estimates = metrics.estimate(answers, patients)
    report = confusion.classification_report(answers.classes, answers.confusion).to_string(
        float_format="%.2f", na_rep=""
    )
    words += [
        "\nBy highest probability:",
        report,
        f"\nn = {len(answers):,}, with 95 % intervals:",
        *_estimate_lines(estimates),
    ]
    after = by_threshold = None
    if rule.is_calibrated:
        after_temperature = metrics.estimate(calibrated(answers, rule.temperature), patients, parts=("terms",))
        after = {"temperature": rule.temperature, "figures": metrics.to_dict(after_temperature)}
        words += [f"\nAfter its temperature, {rule.temperature:.3f}:", *_estimate_lines(after_temperature)]
    if rule.threshold is not None:
        decided_set = decided(answers, rule)
        counts = metrics.estimate(decided_set, patients, parts=("counts",))
        terms = metrics.estimate(calibrated(decided_set, rule.temperature), patients, parts=("terms",))
        every = counts | {"ece": terms["ece"]}
        point = _operating_point(chosen.run, rule)
        by_threshold = {"point": point, **metrics.document(decided_set, counts), "figures": metrics.to_dict(every)}
        report = confusion.classification_report(decided_set.classes, decided_set.confusion).to_string(
            float_format="%.2f", na_rep=""
        )
        words += ["\nBy its decision rule:", report, "", *_estimate_lines(every)]
    figures = {
        **metrics.document(answers, estimates),
        "decision": decision,
        "figures": metrics.to_dict(estimates),
        "after_temperature": after,
        "operating_point": by_threshold,
        "notice": rule.notice,
    }
    print_result(chosen, figures, "\n".join(words))


def _decision_lines(decision: Mapping[str, Any]) -> list[str]:
    """Metrics of what a person is shown, one a line."""
    from cxr_core.evaluation.decision_metrics import TITLES

    return [
        f"{title:<40} {share['value']:.4f} ({share['ci95'][0]:.4f} to {share['ci95'][1]:.4f}), "
        f"{share['count']:,} of {share['of']:,}"
        for name, title in TITLES.items()
        if (share := decision[name])["value"] is not None
    ]


def _operating_point(run_id: str, rule: "DecisionRule") -> dict[str, Any] | None:
    """The threshold of a rule as version 0.1 wrote it, with what it gives on validation images; None without one."""
    from cxr_core.evaluation import decision_metrics, prediction_set

    point = rule.operating_point()
    if point is None:
        return None
    val = decision_metrics.document(prediction_set.read(run_id, "val"), rule)
    shares = {name: val[name]["value"] for name in ("sensitivity", "specificity")}
    return {**point, "temperature": rule.temperature, **shares, "images": rule.images, "of": rule.digest}


def _estimate_lines(estimates: Mapping[str, "Estimate"]) -> list[str]:
    """Metrics with their intervals, one a line."""
    return [
        f"{name:<28} {estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f}), {estimate.method}"
        for name, estimate in estimates.items()
        if estimate.value is not None and estimate.low is not None and estimate.high is not None
    ]


def _calibrate(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import rule_store

    if not 0 <= chosen.sensitivity <= 1:
        raise BadInput(f"A sensitivity lies between 0 and 1. Received: {chosen.sensitivity}.")
    if chosen.positive and not chosen.sensitivity:
        raise BadInput("--positive needs --sensitivity: the share of these classes that is to be found, as 0.95.")
    if chosen.sensitivity:
        rule = rule_store.fit(chosen.run, target_sensitivity=chosen.sensitivity, positive=chosen.positive)
        if rule.threshold is None:
            raise BadInput("No class of this run is called normal. Name the positive ones with --positive.")
    else:
        rule = rule_store.refit(chosen.run)
    rule_store.save(chosen.run, rule)
    document = {
        "decision_rule": rule.document(),
        "temperature": {"value": rule.temperature, "images": rule.images, "of": rule.digest},
        "operating_point": _operating_point(chosen.run, rule),
    }
    words = [
        f"temperature {rule.temperature:.3f}",
        f"decision rule: {rule.describe()}",
        f"confident from {rule.reject_threshold:.3f} on",
    ]
    print_result(chosen, document, "\n".join(words))


def _compare(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import comparison, image_metadata, metrics, prediction_set, rule_store
    from cxr_core.evaluation.decision_rule import calibrated, decided

    if chosen.runs[0] == chosen.runs[1]:
        raise BadInput(f"`compare` takes two different runs. Received: '{chosen.runs[0]}' twice.")
    rules = [rule_store.of_run(run_id) for run_id in chosen.runs]
    shared = prediction_set.shared_images(
        [
            decided(prediction_set.read(run_id, chosen.split), rule)
            for run_id, rule in zip(chosen.runs, rules, strict=True)
        ]
    )
    first, second = shared.members
    patients = image_metadata.patients(first, runs.get(chosen.runs[0]).config.data)
    differences = comparison.differences(first, second, patients, parts=("counts", "levels"))
    first_calibrated, second_calibrated = (
        calibrated(member, rule.temperature) for member, rule in zip(shared.members, rules, strict=True)
    )
    differences |= comparison.differences(first_calibrated, second_calibrated, patients, parts=("terms",))
    test, (agreement, kappa) = comparison.mcnemar(first, second), comparison.agreement(first, second)
    document = {
        "n": len(shared),
        "second_less_first": metrics.to_dict(differences),
        "mcnemar": asdict(test),
        "agreement": agreement,
        "kappa": None if math.isnan(kappa) else kappa,
        "decision_rules": [rule.document() for rule in rules],
        "notices": [rule.notice for rule in rules],
    }
    lines = [
        f"{name}: {estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"
        for name, estimate in differences.items()
        if estimate.value is not None and estimate.low is not None and estimate.high is not None
    ]
    summary = f"on {len(shared):,} images that both have answered; McNemar's exact p = {test.p:.3g}, same answer {agreement:.1%}"
    notices = [rule.notice for rule in rules if rule.notice]
    print_result(chosen, document, "\n".join([*notices, f"{chosen.runs[1]} − {chosen.runs[0]}, {summary}", *lines]))


def _ensemble(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import ensembles

    run_id = ensembles.create(chosen.runs, chosen.way)
    ensemble = ensembles.of_run(run_id)
    print_result(chosen, {"run": run_id, **(asdict(ensemble) if ensemble else {})}, run_id)


def _report(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import report

    content = report.html(chosen.runs, split=chosen.split).encode()
    path = Path(chosen.out).expanduser().resolve()
    workspace.write_bytes(path, content)
    print_result(chosen, {"file": str(path), "bytes": len(content)}, f"{path} ({len(content) / 2**20:.1f} MB)")


def _doctor(chosen: argparse.Namespace) -> None:
    from cxr_core.models import packages
    from cxr_core.training import environment

    document = {
        **environment.describe(),
        "cards": [asdict(card) for card in machine.list_gpus()],
        "weights": packages.available(),
        "more_weights": packages.install_all(),
        "features_mb": round(sum(store.bytes for store in features.list_stores()) / 2**20, 1),
        "home": str(workspace.home()),
        "datasets": datasets.list_names(),
        "runs": len(runs.list_ids()),
    }
    print_result(chosen, document, "\n".join(f"{name}: {value}" for name, value in document.items()))
