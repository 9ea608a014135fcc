"""The options that several verbs share, each worded and checked once, and what the verbs make of them."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.console import drop
from benchmark.errors import UserError
from benchmark.paths import results_folder

if TYPE_CHECKING:
    from benchmark.models.load import Finished
    from benchmark.runs.plan import Planned
    from benchmark.runs.request import Request, ResolvedRun

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

DATASET = "a name from `list datasets`, or the path of a folder with a dataset.yaml"
CELL = ("--method", "--dataset", "--split", "--ratio", "--fold", "--seed", "--preset", "--set", "--labelled",
        "--labels", "--unlabelled")


def _number(text: str) -> float:
    """What the text says; NaN, which is in no range, where it is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def percent(text: str) -> int:
    """The type of --ratio."""
    number = _number(text)
    percent = f"{100 * number:g}"
    if 0 < number < 1 and percent.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole percentage; for {percent} % write {percent}")
    if not 1 <= number <= 100 or number != int(number):
        raise argparse.ArgumentTypeError(f"expected a whole percentage from 1 to 100, not '{text}'")
    return int(number)


def sparse(text: str) -> float:
    """The type of --labels: `sparse:0.25` as 0.25."""
    kind, _, share = text.partition(":")
    number = _number(share)
    if kind != "sparse" or not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"expected sparse:SHARE with a share of the glands above 0 and at most 1, as "
                                         f"in sparse:0.25, not '{text}'")
    return number


def key_value(text: str) -> str:
    """The type of --set and --only."""
    if not text.partition("=")[0].strip() or "=" not in text:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, not '{text}': write one word with an equals sign, "
                                         "as in train.steps=100 (--set) or ratio=10 (--only)")
    return text


def shard(text: str) -> tuple[int, int]:
    """The type of --shard: `2/4` as (2, 4)."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 1 to N, as in 2/4, not '{text}'")
    return int(part), int(parts)


def draws(text: str) -> tuple[int, ...]:
    """The type of --draws: `0,1` as (0, 1)."""
    parts = text.split(",")
    if not all(map(str.isdecimal, parts)) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"expected draws as in 0,1, not '{text}'")
    return tuple(map(int, parts))


def seconds(text: str) -> float:
    """The type of options that take a positive time."""
    number = _number(text)
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, not '{text}'")
    return number


SHARED: dict[str, dict[str, Any]] = {
    "--method": {"required": True, "help": "a name from `list methods`, or path/to/file.py:Class"},
    "--dataset": {"required": True, "help": DATASET},
    "--split": {"help": "list of training and test images (default: official, or the first there is)"},
    "--ratio": {"type": percent, "metavar": "PERCENT",
                "help": "labelled share of the training images, in percent (default: 20)"},
    "--fold": {"type": int, "default": 0,
               "help": "fold; on `official` the draw of the labelled list (default: 0)"},
    "--seed": {"type": int, "default": 0, "help": "seed of weights, batches and noise (default: 0)"},
    "--preset": {"default": "fair", "help": "a name from `list presets` (default: fair)"},
    "--set": {"dest": "overrides", "type": key_value, "action": "append", "default": [], "metavar": "KEY=VALUE",
              "help": "change one setting, as in --set train.steps=100; see `explain`"},
    "--labelled": {"metavar": "FILE", "help": "take the labelled images from this list, one id a line; their share is "
                   "then the default of --ratio"},
    "--labels": {"type": sparse, "metavar": "sparse:SHARE",
                 "help": "only this share of the glands of each labelled image is known; see labels.* in `explain`"},
    "--unlabelled": {"metavar": "POOL,...", "help": "take unlabelled images from these data sets or folders of images; "
                     "`own` stands for the data set's own (default: own)"},
    "--device": {"default": "auto", "help": "auto, cpu, cuda or cuda:N (default: auto)"},
    "--results": {"metavar": "DIR", "help": "results folder (default: $SEMIHISTO_RESULTS or ./results)"},
    "--data": {"metavar": "DIR", "help": "folder of raw data sets (default: $SEMIHISTO_DATA or ./data)"},
    "--json": {"action": "store_true", "help": "print one JSON value on stdout"},
    "--keep": {"choices": ("nothing", "weights", "all"), "default": "weights",
               "help": "what stays in the run's folder (default: weights)"},
    "experiment": {"help": "a name from `list experiments`, or path/to/file.yaml"},
    "--only": {"type": key_value, "action": "append", "default": [], "metavar": "KEY=VALUE",
               "help": "cells with this row, method, dataset, ratio or draw; repeat a key to allow several values"},
    "--shard": {"type": shard, "default": (1, 1), "metavar": "I/N",
                "help": "only the I-th of N parts, for machines without a common folder; see `records merge`"},
    "--trials": {"type": int, "metavar": "N",
                 "help": "trials of every method, the default setting included (default: `trials` in the file)"},
    "--draws": {"type": draws, "default": (), "metavar": "0,1",
                "help": "draws that each trial runs on (default: the first of the row)"},
    "run": {"metavar": "RUN", "help": "a run's id or its beginning, its record or folder, or an export's folder"},
}


def add_verb(
    verbs: Verbs, name: str, about: str, function: Callable[[argparse.Namespace], int], *options: str
) -> argparse.ArgumentParser:
    """The parser of a verb, or of an action of one, with these of the shared options."""
    parser = verbs.add_parser(name, description=about, help=about, allow_abbrev=False)
    add_options(parser, *options)
    parser.set_defaults(function=function)
    return parser


def add_group(verbs: Verbs, name: str, about: str, metavar: str) -> Verbs:
    """A verb that has actions of its own, to which these are added."""
    parser = verbs.add_parser(name, description=about, allow_abbrev=False)
    return parser.add_subparsers(title=f"{metavar.lower()}s", metavar=metavar, required=True, parser_class=type(parser))


def add_options(parser: argparse._ActionsContainer, *options: str) -> None:
    """Some of the shared options."""
    for option in options:
        parser.add_argument(option, **SHARED[option])


def only(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """The values that --only says, by key."""
    chosen: dict[str, list[str]] = {}
    for pair in arguments.only:
        key, _, value = pair.partition("=")
        chosen.setdefault(key, []).append(value)
    return chosen


def part_of(arguments: argparse.Namespace) -> list[str]:
    """What names the same part of the same experiment to another verb, on the same device and in the same folder."""
    parts = [arguments.experiment]
    for pair in arguments.only:
        parts += ["--only", pair]
    if arguments.shard != (1, 1):
        parts += ["--shard", "{}/{}".format(*arguments.shard)]
    parts += ["--device", arguments.device] if arguments.device != "auto" else []
    return parts + (["--results", str(arguments.results)] if arguments.results else [])


def request(arguments: argparse.Namespace) -> Request:
    """The request that the shared arguments make."""
    from benchmark.config.compose import parse_overrides
    from benchmark.registry import METHODS
    from benchmark.runs.request import Request

    if arguments.method == "all" and not METHODS.knows("all"):
        raise UserError("--method all: give one method; `python -m benchmark grid EXPERIMENT` runs several "
                        "(see `list experiments`)")
    labelled = Path(arguments.labelled) if arguments.labelled else None
    if labelled is not None and not labelled.is_file():
        raise UserError(f"--labelled {labelled}: no such file")
    overrides = parse_overrides(arguments.overrides)
    for option, key in (("labels", "labels.glands"), ("unlabelled", "data.unlabelled")):
        if (value := getattr(arguments, option)) is not None:
            if key in overrides:
                raise UserError(f"--{option} and --set {key}=... say the same; give one of them")
            overrides[key] = value
    return Request(
        METHODS.full_name(arguments.method), arguments.dataset, arguments.split, arguments.ratio, arguments.fold,
        arguments.seed, arguments.preset, overrides, labelled,
    )


def annotated(run: ResolvedRun | Planned, raw: str | None) -> dict[str, Any]:
    """What the sparse labels of a run come to, or why that is `unknown`; empty where its masks are whole."""
    from benchmark.data.load import load_prepared
    from benchmark.training.setup import annotation_of

    if run.spec.values["labels.glands"] is None:
        return {}
    try:
        sparse = annotation_of(run.spec, load_prepared(run.dataset, run.spec.values["data.size"], raw=raw), run.split)
    except UserError as error:
        return {"unknown": str(error)}
    return sparse.facts if sparse else {}


def finished(arguments: argparse.Namespace) -> Finished:
    """The run that the arguments name, with its weights on the device."""
    from benchmark.models.load import load

    return load(arguments.run, results_folder(arguments.results), arguments.device)


def show(arguments: argparse.Namespace, value: Any, lines: Iterable[str]) -> None:
    """A verb's answer on stdout: with --json one JSON value, else lines for a person."""
    try:
        for line in [json.dumps(value, indent=1, sort_keys=True)] if arguments.json else lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone, as with `| head`; the exit code stands
        drop(sys.stdout)


def aligned(rows: Mapping[str, str]) -> list[str]:
    """A line a row: its name, and what is said of it in a column of its own."""
    width = max(map(len, rows), default=0)
    return [f"{name:<{width}}  {text}" for name, text in rows.items()]
