"""`export`: a finished run as a folder of weights, a program and a card, for use elsewhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK, RUN_FAILED
from benchmark.paths import results_folder


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("export", help="a finished run's weights and program, with a card", allow_abbrev=False)
    shared.add_run(parser)
    parser.add_argument("--format", default="weights,program", metavar="weights,program,onnx",
                        help="what to write beside the card (default: weights,program)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to (default: RESULTS/exports/RUN)")
    parser.add_argument("--overwrite", action="store_true", help="replace what was exported before")
    shared.add_folders(parser)
    shared.add_json(parser)
    parser.set_defaults(function=run, device="cpu")


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and name what is in it; exit code 1 where a part could not be made."""
    from benchmark.models.export import check_is_run, clear, export, formats_of

    formats = formats_of(arguments.format)
    finished = shared.finished(arguments)
    folder = arguments.output or results_folder(arguments.results) / "exports" / finished.model.run_id
    check_is_run(finished)
    clear(folder, finished, arguments.overwrite)
    files, failed = export(finished, folder, formats)
    for line in failed:
        print(line, file=sys.stderr)
    if arguments.json:
        shared.print_json({"run_id": finished.model.run_id, "output": str(folder), "files": files, "failed": failed})
    else:
        for name, about in files.items():
            print(f"{folder / name}: {about}")
    return RUN_FAILED if failed else OK
