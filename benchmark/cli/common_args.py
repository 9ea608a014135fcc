"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError
from benchmark.paths import results_folder

if TYPE_CHECKING:
    from benchmark.models.load import Finished
    from benchmark.runs.request import Request


def add_cell(parser: argparse.ArgumentParser, *, dataset_default: str | None = None) -> None:
    """What names one cell of a table, and its settings."""
    parser.add_argument("--method", required=True, help="a name from `list methods`, or path/to/file.py:Class")
    parser.add_argument("--dataset", required=dataset_default is None, default=dataset_default,
                        help="a name from `list datasets`, or the path of a folder with a dataset.yaml")
    parser.add_argument("--split", help="list of training and test images (default: official, or the first there is)")
    parser.add_argument("--ratio", type=int, default=20,
                        help="labelled share of the training images, percent (default: 20)")
    parser.add_argument("--fold", type=int, default=0,
                        help="fold, or on `official` draw of the labelled list (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, plans and noise (default: 0)")
    parser.add_argument("--preset", default="fair", help="see `list presets` (default: fair)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                        help="override one setting, as in --set train.steps=100; see `explain`")
    parser.add_argument("--labelled", metavar="FILE", help="take the labelled images from this list, one id a line")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Which device."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def add_folders(parser: argparse.ArgumentParser, *, results: bool = True, data: bool = True) -> None:
    """Where results and raw data lie."""
    if results:
        parser.add_argument("--results", metavar="DIR",
                            help="results folder (default: $SEMIHISTO_RESULTS or ./results)")
    if data:
        parser.add_argument("--data", metavar="DIR",
                            help="folder of raw data sets (default: $SEMIHISTO_DATA or ./data)")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Which finished run."""
    parser.add_argument("run", metavar="RUN",
                        help="a run's id, the beginning of one, its record or folder, or an export's folder")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Machine-readable output."""
    parser.add_argument("--json", action="store_true", help="print one JSON value on stdout")


def request(arguments: argparse.Namespace) -> Request:
    """The request that the shared arguments make."""
    from benchmark.config.compose import parse_overrides
    from benchmark.registry import METHODS
    from benchmark.runs.request import Request

    labelled = Path(arguments.labelled) if arguments.labelled else None
    if labelled is not None and not labelled.is_file():
        raise UserError(f"--labelled {labelled}: no such file")
    return Request(
        METHODS.full_name(arguments.method), arguments.dataset, arguments.split, arguments.ratio, arguments.fold,
        arguments.seed, arguments.preset, parse_overrides(arguments.overrides), labelled,
    )


def finished(arguments: argparse.Namespace) -> Finished:
    """The run that the arguments name, with its weights on the device."""
    from benchmark.models.load import load

    return load(arguments.run, results_folder(arguments.results), raw=arguments.data, device_name=arguments.device)


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    print(json.dumps(value, indent=1, sort_keys=True))
