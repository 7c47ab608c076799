"""The command line: everything that the pages do, by the same functions.

With `--json` one JSON document goes to stdout and nothing else; all other words go to stderr.
Exit codes: 0 done, 1 the work failed, 2 bad arguments or bad input; then one sentence on stderr.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr_core import __version__
from cxr_core.cli import data, prediction, results, training
from cxr_core.cli.terminal import Parser
from cxr_core.errors import CxrError, sentence
from cxr_core.formatting import DISCLAIMER


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's remarks on drivers are no answer to anybody
    try:
        chosen = parser().parse_args(arguments)
        chosen.work(chosen)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # the reader closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except CxrError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except (OSError, MemoryError) as error:
        print(sentence(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 1


def parser() -> Parser:
    """All commands with their options."""
    command = "cxr" if Path(sys.argv[0]).stem == "cxr" else "python -m cxr_core"
    root = Parser(prog=command, description=f"Chest X-ray workbench. {DISCLAIMER}")
    root.add_argument("--version", action="version", version=__version__)
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    data.add_commands(commands)
    training.add_commands(commands)
    results.add_commands(commands)
    prediction.add_commands(commands)
    return root
