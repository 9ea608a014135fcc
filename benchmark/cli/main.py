"""The command line: one file a verb in benchmark/cli, heavy imports inside the verbs, every mistake one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from benchmark import __version__
from benchmark.console import log_to_stderr
from benchmark.errors import INTERRUPTED, OK, RUN_FAILED, Interrupted, UserError, suggest

VERBS = (
    "run", "grid", "status", "report", "records", "clean", "predict", "evaluate", "export", "verify", "list",
    "explain", "data", "profile", "new", "check", "doctor",
)  # files in benchmark/cli, in the order of --help

DESCRIPTION = "Compare semi-supervised segmentation methods on identical images, folds and label ratios."
EXAMPLES = """examples:
  python -m benchmark list methods
  python -m benchmark run --method METHOD --dataset synthetic --preset demo
  python -m benchmark run --method METHOD --dataset glas --preset quick --ratio 20 --data DIR
  python -m benchmark grid demo
  python -m benchmark report
exit codes: 0 ok, 1 a run failed, 2 usage, 3 grid incomplete, 4 a check failed, 75 interrupted and resumable"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, with the near miss."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice: '" in message:
            wrong = message.split("invalid choice: '", 1)[1].split("'", 1)[0]
            options = [option.strip(" '\")") for option in message.split("(choose from", 1)[-1].split(",")]
            message = f"unknown '{wrong}'.{suggest(wrong, options)} Known: {', '.join(options)}."
        elif message.startswith("unrecognized arguments:"):
            wrong = message.split(": ", 1)[1].split()[0]
            message += suggest(wrong, self._option_string_actions)
        raise UserError(f"{message} See: {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = Parser(
        prog="python -m benchmark", description=DESCRIPTION, epilog=EXAMPLES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"semihisto {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", parser_class=Parser)
    for verb in VERBS:
        import_module(f"benchmark.cli.{verb}").add(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run the verb, and turn every foreseen failure into one line on stderr and an exit code."""
    log_to_stderr()
    try:
        parser = build_parser()
        parsed = parser.parse_args(arguments)
        if parsed.verb is None:
            parser.print_help()
            return OK
        return parsed.function(parsed)
    except UserError as error:
        return _tell(f"error: {error}", error.code)
    except Interrupted as error:
        return _tell(str(error), INTERRUPTED)
    except KeyboardInterrupt:
        return _tell("interrupted; the same command continues from the last checkpoint", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except MemoryError:
        return _tell("error: out of memory; try a smaller data.size or net.name", RUN_FAILED)
    except OSError as error:
        return _tell(f"error: {error.filename or 'a file'}: {error.strerror or error}", RUN_FAILED)


def _tell(text: str, code: int) -> int:
    print(" ".join(text.split("\n")), file=sys.stderr)
    return code
