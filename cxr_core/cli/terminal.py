"""Declare commands and print their results: words or JSON on stdout, everything else on stderr."""

import argparse
import json
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from cxr_core.data.progress import Progress
from cxr_core.errors import BadInput


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        number = re.fullmatch(r"argument (\S+): invalid (int|float) value: '(.*)'", message)
        if number:
            kind = "whole number" if number[2] == "int" else "number"
            raise BadInput(f"{number[1]} takes a {kind}. Received: '{number[3]}'. See: {self.prog} --help")
        if value := re.fullmatch(r"argument ([^:]+): (.+\. Received: .*)", message, re.DOTALL):
            raise BadInput(f"{value[1]} {value[2]} See: {self.prog} --help")
        raise BadInput(f"{message[:1].upper()}{message[1:].rstrip('.')}. See: {self.prog} --help")


def command(group: Any, name: str, help_: str, work: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(name, help=help_, description=help_)
    parser.set_defaults(work=work)
    return parser


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an option for a whole number from `least` to `most`."""

    def int_(text: str) -> int:
        value = int(text)
        if value < least or (most is not None and value > most):
            bounds = f"at least {least}" if most is None else f"a whole number from {least} to {most}"
            raise argparse.ArgumentTypeError(f"is {bounds}. Received: {value}.")
        return value

    int_.__name__ = "int"  # as argparse names the type of what is no number at all
    return int_


def path(text: str) -> str:
    """The type of an argument for a path; an empty one would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is a path, and empty here. Received: ''.")
    return text


def json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def pair(text: str, *, option: str = "--set", example: str = "dropout=0.3") -> tuple[str, str]:
    """The two sides of KEY=VALUE, as `option` takes it."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise BadInput(f"{option} takes key=value, such as {option} {example}. Received: '{text}'.")
    return name.strip(), value.strip()


def print_result(chosen: argparse.Namespace, document: Any, words: str) -> None:
    print(json.dumps(document, indent=1, allow_nan=False) if chosen.json else words)


def print_note(words: str) -> None:
    print(words, file=sys.stderr)


class ProgressMeter(Progress):
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
            print_note(f"{stage} …")
        self._stage = stage
