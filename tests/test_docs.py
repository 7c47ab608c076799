"""The commands of README are real."""

import re
import shlex

import pytest

from cxr_core import cli
from cxr_core.errors import CxrError
from tests.conftest import PROJECT

TEXT = (PROJECT / "README.md").read_text()
COMMANDS = re.findall(r"^python -m cxr_core (.+)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line: str) -> None:
    arguments = shlex.split(line, comments=True)
    try:
        cli.parser().parse_args(arguments)
    except CxrError as error:  # pragma: no cover - the failure's message
        pytest.fail(str(error))


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 5


def test_the_test_command_is_the_one_of_ci() -> None:
    lines = (PROJECT / ".ci" / "run").read_text().splitlines()
    assert lines[-2:] == ["make test", "make test-slow"]
    assert all(f"\n{line}\n" in TEXT for line in lines[-2:])
