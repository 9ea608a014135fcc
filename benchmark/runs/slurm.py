"""SLURM: an array whose tasks are workers of one grid, as a script that a person can read and change."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.errors import RUN_FAILED, UserError
from benchmark.files import write_text
from benchmark.runs.plan import Planned
from benchmark.runs.run import archive_run
from benchmark.runs.run_files import RunFolder, digest, record_of

WARNING = 120  # seconds before the time limit at which a task is asked to save; SLURM is up to a minute early

SCRIPT = """#!/bin/bash
# {runs} runs of the experiment {name}, by {workers} workers. Written by:
#   {written_by}
# Every task is a worker of the same grid. Locks in the results folder give each run to one task. So a task may start
# late, fail, be cancelled or be requeued; the others continue. Shortly before its time limit a task receives
# SIGUSR1: it saves its run, is requeued, and continues the run later.
{directives}

cd {folder} || exit 2
signalled=no
trap 'signalled=yes; kill -USR1 "$worker"' USR1
trap 'kill -TERM "$worker"' TERM

{command} &
worker=$!
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done  # again and again: a trap interrupts the waiting
wait "$worker"
code=$?

if [ "$signalled" = yes ] && {{ [ "$code" -eq 75 ] || [ "$code" -ge 127 ]; }}; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
[ "$code" -ne 3 ] || code=0  # the rest is with other workers
exit "$code"
"""


def script(
    name: str, runs: int, workers: int, command: Sequence[str], *, logs: Path, cuda: bool, options: Sequence[str] = (),
) -> str:
    """The text of a job script for `runs` runs of the experiment `name`.

    command: what each worker executes. logs: folder of the tasks' output. options: more for sbatch, stronger than ours.
    """
    ours = [
        f"--job-name=semihisto-{name}",
        f"--array=1-{workers}",
        f"--output={str(logs.resolve()).replace('%', '%%')}/%x-%A_%a.log",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{WARNING}",
        "--ntasks=1",
        "--cpus-per-task=2",
        *(["--gres=gpu:1"] if cuda else []),
    ]
    return SCRIPT.format(
        runs=runs, name=name, workers=workers, folder=shlex.quote(os.getcwd()), command=shlex.join(command),
        written_by="python -m benchmark " + shlex.join(sys.argv[1:]).replace("\n", " "),
        directives="\n".join(f"#SBATCH {quoted(option)}" for option in [*ours, *options]),
    )


def quoted(option: str) -> str:
    """An option as sbatch reads it in a script, where it splits at spaces and cuts at #."""
    name, equals, value = option.partition("=")
    if not re.search(r"[\s#'\"\\]", value):
        return option
    return f'{name}{equals}"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def submit(text: str, path: Path, chosen: Sequence[Planned], results: Path) -> str:
    """Archive the records that `chosen` are to replace, write the script to `path` and hand it to sbatch; its answer.

    UserError where that cannot be done.
    """
    if shutil.which("sbatch") is None:
        raise UserError("--launcher slurm: there is no sbatch on this machine; --print shows the script")
    for entry in chosen:
        if entry.digest:  # not left to the tasks: each would try again what another has just tried
            folder, record = RunFolder(results, entry.spec), record_of(results, entry.spec.run_id)
            with folder.locked(wait=True):
                if digest(record) == entry.digest:
                    archive_run(folder, record)
    write_text(path, text)
    done = subprocess.run(["sbatch", str(path)], capture_output=True, text=True)
    if done.returncode:
        aside = "; the old records are archived; give the same command again" * any(each.digest for each in chosen)
        raise UserError(f"sbatch refused {path}: {' '.join(done.stderr.split())}{aside}", RUN_FAILED)
    return done.stdout.strip()
