"""The command line: verbs in groups, heavy imports inside the verbs, every mistake one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from benchmark import __version__
from benchmark.console import log_to_stderr
from benchmark.errors import INTERRUPTED, OK, RUN_FAILED, Interrupted, UserError, suggest

GROUPS = {
    "run an experiment": ("run", "grid", "status", "clean"),
    "look at results": ("report", "records", "verify"),
    "use a trained model": ("predict", "evaluate", "export"),
    "data": ("data",),
    "methods": ("new", "check", "profile"),
    "information": ("list", "explain", "doctor"),
}  # the verbs, in the order of --help
MODULES = ("run", "grid", "status", "clean", "report", "records", "verify", "models", "data", "methods", "information")

PROGRAM = "python -m benchmark"
DESCRIPTION = "Compare semi-supervised segmentation methods on identical images, folds and label ratios."
EXAMPLES = """examples:
  python -m benchmark list methods
  python -m benchmark run --method METHOD --dataset synthetic --preset demo
  python -m benchmark grid demo
  python -m benchmark report demo
exit codes: 0 ok, 1 a run failed, 2 usage, 3 grid incomplete, 4 a check failed, 75 interrupted and resumable"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, with the near miss and the help of the verb in question."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.set_defaults(parser=self)  # the innermost one that was reached

    def error(self, message: str) -> NoReturn:
        if "invalid choice: '" in message:
            wrong = message.split("invalid choice: '", 1)[1].split("'", 1)[0]
            options = [option.strip(" '\")") for option in message.split("(choose from", 1)[-1].split(",")]
            message = f"unknown '{wrong}'.{suggest(wrong, options)} Known: {', '.join(options)}."
        elif message.startswith("unrecognized arguments:"):
            wrong = message.split(": ", 1)[1].split()[0]
            message += f".{suggest(wrong, self._option_string_actions)}"
        raise UserError(f"{message.rstrip('.')}. See: {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = Parser(
        prog=PROGRAM, usage=f"{PROGRAM} VERB [options]", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"semihisto {__version__}")
    verbs = parser.add_subparsers(prog=PROGRAM, dest="verb", help=argparse.SUPPRESS, parser_class=Parser)
    for module in MODULES:
        import_module(f"benchmark.cli.{module}").add(verbs)
    listed = [
        "\n".join([f"{group}:", *(f"  {verb:<10}{_first_line(verbs.choices[verb])}" for verb in names)])
        for group, names in GROUPS.items()
    ]
    parser.epilog = "\n\n".join([*listed, EXAMPLES])
    return parser


def _first_line(verb: argparse.ArgumentParser) -> str:
    return (verb.description or "").partition("\n")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run the verb, and turn every foreseen failure into one line on stderr and an exit code."""
    mend_streams()
    log_to_stderr()
    try:
        code = run(arguments)
        sys.stdout.flush()  # a closed pipe or a full disk shall be noticed here
        return code
    except UserError as error:
        return _tell(f"error: {error}", error.code)
    except Interrupted as error:
        return _tell(str(error), INTERRUPTED)
    except KeyboardInterrupt:
        return _tell("interrupted; the same command continues from the last checkpoint", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        _drop_output()
        return OK
    except MemoryError:
        return _tell("error: out of memory; try a smaller data.size or net.name", RUN_FAILED)
    except OSError as error:
        _drop_output()
        return _tell(f"error: {error.filename or 'writing the output'}: {error.strerror or error}", RUN_FAILED)


def run(arguments: Sequence[str] | None) -> int:
    """Parse, and run the verb."""
    parser = build_parser()
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        parsed.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if parsed.verb is None:
        parser.print_help()
        return OK
    code: int = parsed.function(parsed)
    return code


def mend_streams() -> None:
    """Replace closed streams by /dev/null, so that no file is opened in their place; escape what cannot be encoded."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))
        elif name != "stdin" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let what is still in the buffer of stdout go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(text: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(" ".join(text.split("\n")), file=sys.stderr)
    return code
