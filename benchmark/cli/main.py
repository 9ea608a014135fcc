"""The command line: all commands in groups, their help, and exit codes. Commands import torch only when they run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from benchmark import __version__
from benchmark.console import drop, log_to_stderr
from benchmark.errors import INTERRUPTED, OK, RUN_FAILED, Interrupted, UserError, raised_at, suggest

GROUPS = {
    "run an experiment": {"run": "run", "grid": "grid", "tune": "tune", "status": "grid", "clean": "results"},
    "look at results": {"report": "results", "diagnose": "results", "records": "results", "verify": "run"},
    "use a trained model": {"predict": "models", "evaluate": "models", "export": "models"},
    "data": {"data": "data"},
    "methods": {"new": "methods", "check": "methods", "profile": "methods"},
    "information": {"list": "information", "explain": "information", "doctor": "information"},
}  # the verbs in the order of --help, and the files that describe them
FILES = {verb: file for verbs in GROUPS.values() for verb, file in verbs.items()}

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
        end = "" if message.endswith((".", "?")) else "."
        raise UserError(f"{message}{end} See: {self.prog} --help")


def build_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The parser of all verbs; where `verb` is one of them, only of those in its file."""
    parser = Parser(
        prog=PROGRAM, usage=f"{PROGRAM} VERB [options]", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"semihisto {__version__}")
    verbs = parser.add_subparsers(prog=PROGRAM, dest="verb", help=argparse.SUPPRESS, parser_class=Parser)
    for file in [FILES[verb]] if verb in FILES else dict.fromkeys(FILES.values()):
        import_module(f"benchmark.cli.{file}").add(verbs)
    if verb not in FILES:
        listed = [
            "\n".join([f"{group}:", *(f"  {name:<10}{verbs.choices[name].description}" for name in names)])
            for group, names in GROUPS.items()
        ]
        parser.epilog = "\n\n".join([*listed, EXAMPLES])
    return parser


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
        drop(sys.stdout)
        return OK
    except MemoryError:
        return _tell("error: out of memory; try a smaller data.size or net.name", RUN_FAILED)
    except OSError as error:
        drop(sys.stdout)
        return _tell(f"error: {error.filename or 'writing the output'}: {error.strerror or error}", RUN_FAILED)
    except Exception as error:
        if os.environ.get("SEMIHISTO_DEBUG"):
            raise
        return _tell(f"error: {type(error).__name__}: {error} ({raised_at(error)[0]}); "
                     "SEMIHISTO_DEBUG=1 shows the traceback", RUN_FAILED)


def run(arguments: Sequence[str] | None) -> int:
    """Parse, and run the verb."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = build_parser(*arguments[:1])
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


def _tell(text: str, code: int) -> int:
    try:
        print(" ".join(text.split("\n")), file=sys.stderr)
    except OSError:
        drop(sys.stderr)
    return code
