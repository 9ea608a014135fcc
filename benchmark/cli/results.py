"""`report`, `diagnose`, `clean`, `records`: what is done with the records and files of a results folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli import common_args as shared
from benchmark.errors import CHECK_FAILED, GRID_INCOMPLETE, OK, UserError
from benchmark.paths import results_folder

if TYPE_CHECKING:
    from benchmark.report.results_frame import Group


def add(verbs: shared.Verbs) -> None:
    """Describe the verbs."""
    about = "tables, figures and a page of an experiment"
    parser = shared.add_verb(verbs, "report", about, report, "--results", "--only", "--trials", "--draws")
    parser.add_argument("experiment", nargs="?",
                        help="a name from `list experiments`, or path/to/file.yaml (default: all records there are)")
    parser.add_argument("--protocol", choices=("strict", "validation", "paper", "class_means"), default="strict",
                        help="what a score is: see docs/protocols.md (default: strict)")
    parser.add_argument("--format", default="md,tex,csv,png,html", metavar="md,tex,...",
                        help="which files to write, also pdf (default: md,tex,csv,png,html)")
    parser.add_argument("--check", action="store_true",
                        help="write nothing; exit code 4 if a text file or the page is missing or not current")
    parser.add_argument("--against", choices=("paper",),
                        help="compare with the published numbers; exit code 4 if any differ")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="whose runs (default: those of the kind of device that has more records)")

    about = "say why a run is not better than one without unlabelled images, and what to try"
    parser = shared.add_verb(verbs, "diagnose", about, diagnose, "run", "--results")
    parser.add_argument("--against", metavar="RUN",
                        help="the run to compare with (default: one of the same draw that uses labelled images alone)")

    about = "list files that are not needed any more; with --yes, remove them"
    parser = shared.add_verb(verbs, "clean", about, clean, "--results", "--json")
    parser.epilog = ("The files are archived records and checkpoints (*.old1, ...), checkpoints of finished runs, and "
                     "temporary files older than a day. Records and running runs are never removed.")
    parser.add_argument("--yes", action="store_true", help="remove the files; without this they are only listed")

    actions = shared.add_group(verbs, "records", "copy the records of other people or machines", "ACTION")
    about = "copy records that are missing, and their counts, from other results folders; refuse where two differ"
    parser = shared.add_verb(actions, "merge", about, merge_records, "--results", "--json")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="a results folder, or the records folder in one")
    parser.add_argument("--dry-run", action="store_true", help="show what would be copied, and copy nothing")


def report(arguments: argparse.Namespace) -> int:
    """Write the files, print the tables, and say where the files are."""
    from benchmark.report.build import build, check

    results = results_folder(arguments.results)
    groups = _groups(arguments, results)
    command = "python -m benchmark report" + (f" {shlex.quote(arguments.experiment)}" if arguments.experiment else "")
    command += "".join(f" --only {shlex.quote(pair)}" for pair in arguments.only)
    command += f" --trials {arguments.trials}" * (arguments.trials is not None)
    command += f" --draws {','.join(map(str, arguments.draws))}" * bool(arguments.draws)
    command += f" --device {arguments.device}" * (arguments.device != "auto")
    command += f" --protocol {arguments.protocol}" * (arguments.protocol != "strict")
    if arguments.against:
        return _against(groups)
    if arguments.check:
        for path in check(groups, results, command, arguments.protocol):
            print(f"current: {path}")
        return OK
    formats = [name for part in arguments.format.split(",") if (name := part.strip())]
    made = build(groups, results, command, arguments.protocol, formats)
    print(made.text)
    for path in made.paths:
        print(f"wrote {path}", file=sys.stderr)
    return OK


def _groups(arguments: argparse.Namespace, results: Path) -> list[Group]:
    """The groups to report; UserError where there is nothing."""
    from benchmark.report.gather import check_records, gather, group_runs

    if arguments.experiment is None:
        if arguments.only or arguments.trials is not None or arguments.draws or arguments.device != "auto":
            raise UserError("--only, --trials, --draws and --device are of an experiment; name it, too")
        if groups := group_runs(check_records(results)):
            return groups
        raise UserError(f"{results / 'records'}: no records to report; make one with 'python -m benchmark run'")
    from benchmark.runs.experiment import read_experiment  # needs torch, which takes seconds to import

    kind = None if arguments.device == "auto" else arguments.device
    experiment = read_experiment(arguments.experiment)
    trials = arguments.trials if arguments.trials is not None else experiment.trials
    found = gather(experiment, results, kind, shared.only(arguments), trials, arguments.draws)
    if not any(group.runs for group in found):
        device = f" --device {kind}" if kind else ""
        raise UserError(f"{results / 'records'}: no records of experiment {arguments.experiment}"
                        f"{f' made on {kind}' if kind else ''}; make them with "
                        f"'python -m benchmark grid {arguments.experiment}{device}'")
    return found


def _against(groups: list[Group]) -> int:
    """Print what agrees with the published numbers and what does not."""
    from benchmark.report.published import against
    from benchmark.report.render import markdown

    found = [(group, against(group)) for group in groups if group.published]
    if not found:
        raise UserError("--against paper: this experiment names no published table; see `published` in its file")
    for group, comparison in found:
        print(markdown(comparison.table))
        print(f"{group.title}: {comparison.compared} cells compared, {comparison.differing} differ", file=sys.stderr)
    if not any(comparison.compared for _, comparison in found):
        raise UserError("--against paper: none of the published numbers has been measured here", GRID_INCOMPLETE)
    return CHECK_FAILED if any(comparison.differing for _, comparison in found) else OK


def diagnose(arguments: argparse.Namespace) -> int:
    """Print the questions with what is seen and what to try, and write them as a page with curves."""
    from benchmark.models.load import find
    from benchmark.report.diagnose import as_text
    from benchmark.report.diagnose import diagnose as parts_of
    from benchmark.report.page.diagnosis import write
    from benchmark.report.plain_run import plain_run, read_run

    results, found = results_folder(arguments.results), []
    for name in filter(None, (arguments.run, arguments.against)):
        path = find(name, results)[0]
        if path is None:
            raise UserError(f"{name}: an export has no record to diagnose; name the run")
        found.append(read_run(path))
    run, plain = found[0], found[1] if arguments.against else plain_run(found[0], results / "records")
    parts = parts_of(run, plain)
    print(as_text(run, parts))
    print(f"wrote {write(run, parts, results)}", file=sys.stderr)
    return OK


def clean(arguments: argparse.Namespace) -> int:
    """List the files, and remove them where asked to."""
    from benchmark.runs.maintenance import removable, remove, size

    results = results_folder(arguments.results)
    sizes = {path: size(path) for path in removable(results)}
    if arguments.yes:
        for path in sizes:
            remove(path)
    found = {str(path): bytes_ for path, bytes_ in sizes.items()}
    shared.show(arguments, {"results": str(results), "removed": arguments.yes, "files": found}, [
        *(f"{bytes_ / 2**20:8.1f} MiB  {path}" for path, bytes_ in found.items()),
        f"{len(sizes)} files, {sum(sizes.values()) / 2**20:.1f} MiB{' removed' * arguments.yes}",
    ])
    if sizes and not arguments.yes:
        print("nothing is removed yet: give the same command with --yes", file=sys.stderr)
    return OK


def merge_records(arguments: argparse.Namespace) -> int:
    """Copy, and show what each folder had; exit code 4 where records differ, and nothing is copied then."""
    from benchmark.runs.maintenance import merge

    results = results_folder(arguments.results)
    found = merge([Path(folder) for folder in arguments.folders], results, dry_run=arguments.dry_run)
    sources = [{"folder": str(folder)} | runs for folder, runs in found.items()]
    shared.show(arguments, {"results": str(results), "dry_run": arguments.dry_run, "sources": sources}, (
        f"{folder}: {', '.join(f'{len(names)} {what}' for what, names in runs.items())}"
        + " (dry run)" * arguments.dry_run for folder, runs in found.items()
    ))
    return OK
