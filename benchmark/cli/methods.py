"""`new`, `check`, `profile`: start a method, test it against the contract, measure its cost."""

from __future__ import annotations

import argparse
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cli import common_args as shared
from benchmark.errors import CHECK_FAILED, OK, NotApplicable, UserError

if TYPE_CHECKING:
    import torch

ALL = "all"
COLUMNS: dict[str, tuple[str, float, str]] = {
    "parameters": ("parameters_trained", 1, ",.0f"), "GFLOP": ("flops_per_step", 1e9, ".1f"),
    "MiB": ("peak_memory_bytes", 2**20, ".0f"), "step s": ("seconds_per_step", 1, ".4g"),
    "bare s": ("bare_seconds_per_step", 1, ".4g"), "overhead": ("overhead_ratio", 1, ".4g"),
    "labelled/s": ("images_per_second", 1, ".1f"), "of ceiling": ("model_flops_utilisation", 1, ".4g"),
}  # of the table: key, unit and format
logger = logging.getLogger(__name__)


def add(verbs: shared.Verbs) -> None:
    """Describe the verbs."""
    kinds = shared.add_group(verbs, "new", "start a method of your own from one that works", "KIND")
    about = "write a method that works, and tests of its mechanism; no file is overwritten"
    method = shared.add_verb(kinds, "method", about, new, "--json")
    method.add_argument("name", help="in lower case, as in pseudo_label; its class is then PseudoLabel")
    place = method.add_mutually_exclusive_group()
    place.add_argument("--output", metavar="FILE", help="default: NAME.py; its tests go beside it")
    place.add_argument("--in-repository", action="store_true", help="into methods/ and tests/ of this checkout")

    about = "test that a method keeps the contract"
    checking = shared.add_verb(verbs, "check", about, check, "--device", "--json")
    checking.add_argument("method", help="a name from `list methods`, path/to/file.py:Class, or all")

    about = "measure parameters, operations, memory and time of a method, or of all (--method all)"
    cell = [option for option in shared.CELL if option != "--dataset"]
    profiling = shared.add_verb(verbs, "profile", about, profile, *cell, "--device", "--data", "--json")
    profiling.add_argument("--dataset", default="synthetic", help=f"{shared.DATASET} (default: synthetic)")
    profiling.add_argument("--seconds", type=shared.seconds, default=60.0,
                           help="about how long to time each method (default: 60)")
    profiling.add_argument("--count-only", action="store_true", help="count parameters, time nothing")
    profiling.add_argument("--trace", metavar="FILE", help="also write a Chrome trace of three steps")


def new(arguments: argparse.Namespace) -> int:
    """Write both files, and print what to do next."""
    from benchmark.templates import write_method

    method, tests, class_name = write_method(arguments.name, arguments.output, arguments.in_repository)
    called = arguments.name if arguments.in_repository else shlex.quote(f"{method}:{class_name}")
    commands = [
        f"python -m benchmark check {called}",
        f"python -m benchmark run --method {called} --dataset synthetic --preset demo",
        f"python -m pytest {shlex.quote(str(tests))}",
    ]
    made = {"class": class_name, "method": str(method), "tests": str(tests), "next": commands}
    shared.show(arguments, made, [f"wrote {method}", f"wrote {tests}", "next:", *(f"  {each}" for each in commands)])
    return OK


def check(arguments: argparse.Namespace) -> int:
    """Print one line a check and one for all; exit code 4 where one failed."""
    from benchmark.conformance.checks import check_method
    from benchmark.registry import METHODS
    from benchmark.training import device as devices

    device = devices.choose(arguments.device)
    names = METHODS.names() if arguments.method == ALL else [METHODS.full_name(arguments.method)]
    report: dict[str, dict[str, str | None]] = {}
    for name in names:
        report[name] = {}
        for one, complaint in check_method(name, device):
            shown = "the same error" if complaint and complaint in report[name].values() else complaint or "ok"
            report[name][one] = complaint
            if not arguments.json:
                print(f"{name}: {one.replace('_', ' ')}: {shown}", flush=True)
    answers = [complaint for results in report.values() for complaint in results.values()]
    failed = sum(complaint is not None for complaint in answers)
    passed = f"{failed} of {len(answers)} checks failed" if failed else f"{len(answers)} checks passed"
    shared.show(arguments, report, [passed])
    return CHECK_FAILED if failed else OK


def profile(arguments: argparse.Namespace) -> int:
    """Print the costs of one method, or a table with `--method all`."""
    from benchmark.registry import METHODS
    from benchmark.training import device as devices

    device = devices.choose(arguments.device)
    if arguments.method != ALL:
        try:
            costs = measure(arguments, device)
        except NotApplicable as reason:
            raise UserError(f"{arguments.method} declines this setting: {reason}") from None
        shared.show(arguments, costs, _lines(costs))
        return OK
    if arguments.trace:
        raise UserError(f"--trace {arguments.trace}: a trace is of one method; name it with --method")
    found = []
    for name in METHODS.names():
        logger.info("%s ...", name)
        try:
            found.append(measure(argparse.Namespace(**{**vars(arguments), "method": name}), device))
        except (NotApplicable, UserError) as reason:  # a setting of one method is a mistake in the others
            found.append({"method": name, "declined": str(reason)})
    shared.show(arguments, found, _table(found))
    return OK


def measure(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The costs of one method. Raises NotApplicable where it declines the setting."""
    from benchmark.machine import check_machine
    from benchmark.profiling.profile import profile, trace
    from benchmark.runs.request import specify
    from benchmark.runs.run import load_data
    from benchmark.training import device as devices
    from benchmark.training.setup import build_training
    from benchmark.training.trainer import count_parameters

    run = specify(shared.request(arguments), device.type)
    spec = run.spec
    check_machine(spec.values)
    prepared, split, _ = load_data(run, arguments.data)
    training = build_training(spec, prepared, split, device)
    costs = count_parameters(training) if arguments.count_only else profile(training, arguments.seconds)
    if arguments.trace:
        trace(training, Path(arguments.trace))
    return {"method": spec.method, "device": devices.environment(device)["device"]} | costs


def _lines(costs: dict[str, Any]) -> list[str]:
    """One line a cost."""
    lines = []
    for name, value in costs.items():
        form = ",d" if isinstance(value, int) else ".4g" if isinstance(value, float) else ""
        lines.append(f"{name:<26}{'-' if value is None else format(value, form)}")
    return lines


def _table(found: list[dict[str, Any]]) -> list[str]:
    """A Markdown table, a row a method and a column for each of COLUMNS that anything is known of."""
    columns = {head: column for head, column in COLUMNS.items() if any(costs.get(column[0]) for costs in found)}
    lines = ["| method | " + " | ".join(columns) + " |", "|:--|" + "--:|" * len(columns)]
    for costs in found:
        if "declined" in costs:
            said = [f"declined: {costs['declined']}"]
        else:
            said = [format(costs[key] / unit, form) if costs.get(key) is not None else "-"
                    for key, unit, form in columns.values()]
        lines.append(f"| {costs['method']} | {' | '.join(said)} |")
    return lines
