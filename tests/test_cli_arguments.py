"""Arguments that cannot be meant are refused before any work, in one sentence that names the option."""

import argparse
from collections.abc import Iterator

import pytest

from cxr_core import cli

SERVE, TRAIN, ADD = ["serve"], ["train", "--data", "d", "--model", "custom_cnn"], ["data", "add", "synthetic"]
SWEEP = ["sweep", "--data", "d", "--model", "custom_cnn"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        *(([*SERVE, flag, "0"], f"{flag} is at least 1") for flag in ("--per-minute", "--most-mb", "--most-files")),
        ([*SERVE, "--most-seconds", "nan"], "--most-seconds is a number of seconds above 0"),
        ([*SERVE, "--port", "65536"], "--port is a whole number from 0 to 65535"),
        ([*TRAIN, "--epochs", "0"], "--epochs is at least 1"),
        ([*TRAIN, "--folds", "-1"], "--folds is at least 0"),
        ([*TRAIN, "--seed", "-1"], "--seed is a whole number from 0"),
        ([*TRAIN, "--weights", ""], "--weights is a path, and empty here"),
        ([*TRAIN, "--supplement", "nih:normal=0"], ""),
        (["reproduce", "--epochs", "-5"], "--epochs is at least 1"),
        ([*SWEEP, "--seeds", "0", "-1"], "--seeds is a whole number from 0"),
        ([*ADD, "--images", "0"], "--images is at least 1"),
        ([*ADD, "--labels", ""], "--labels is a path, and empty here"),
        (["data", "add", ""], "A source is needed"),
        (["data", "undo", "d", "0", "--who", "Ada"], "NUMBER is at least 1"),
        (["predict", "r", "x.png", "--frame", "-1"], "--frame is at least 0"),
        (["predict", "r", "x.png", "--heatmaps", " "], "--heatmaps is a path, and empty here"),
        (["report", "r", "--out", ""], "--out is a path, and empty here"),
    ],
)  # fmt: skip
def test_a_number_or_path_that_cannot_be_meant_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _options(child)
        else:
            yield parser.prog, action


def test_every_whole_number_of_every_command_has_a_least_value() -> None:
    assert [f"{command} {action.dest}" for command, action in _options(cli.parser()) if action.type is int] == []
