"""An array of workers on a real SLURM of one node, started by tests/slurm/start and stopped by process id."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.runs.experiment import read_experiment
from benchmark.runs.lock import read_lock
from benchmark.runs.run import RunOptions, run_or_load
from benchmark.runs.slurm import quoted
from tests.conftest import command, invoke, one_line_error

HERE = Path(__file__).parent / "slurm"
pytestmark = pytest.mark.slow
METHOD = """
import os, time
from methods.supervised import Supervised

class Slow(Supervised):
    '''Nobody 2026: takes its time as long as $SLOW is there, and notes which process has taken which step.'''

    def losses(self, labelled, unlabelled, clock):
        with open(os.environ["SLOW"] + ".steps", "a") as file:
            file.write(f"{int(clock.step)} {os.getpid()}" + chr(10))
        time.sleep(0.2 * os.path.exists(os.environ["SLOW"]))
        return super().losses(labelled, unlabelled, clock)

class Broken(Supervised):
    '''Nobody 2026: has a bug.'''

    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.no_such_thing}
"""
TINY = "data.size: 32, train.batch_labelled: 2, evaluate.times: 1"
OPTIONS = ["--sbatch=--cpus-per-task=1", "--sbatch=--comment=a b", "--sbatch=--signal=B:USR1@20", "--sbatch=--time=60"]


def write_experiment(folder: Path) -> Path:
    """A long run, one with a bug, and ten short ones."""
    method, path = folder / "mine.py", folder / "dozen.yaml"
    method.write_text(METHOD)
    rows = [
        f'  long: {{method: "{method}:Slow", set: {{{TINY}, train.steps: 400}}}}',
        f'  broken: {{method: "{method}:Broken", set: {{{TINY}, train.steps: 4}}}}',
    ]
    rows += [f"  short{n}: {{method: supervised, set: {{{TINY}, train.steps: {n + 4}}}}}" for n in range(10)]
    path.write_text("preset: demo\ndatasets: [synthetic]\ndraws: [0]\nrows:\n" + "\n".join(rows) + "\n")
    return path


def test_the_script_is_one_that_bash_and_a_person_can_read(tmp_path):
    line = ["grid", write_experiment(tmp_path), "--launcher", "slurm", "--device", "cuda", "--results", tmp_path]
    shown = invoke(*line, "--print", "--slots", 3, "--sbatch=--partition=gpu", "--only", "draw=0")
    assert shown.returncode == 0 and [path.name for path in (tmp_path / "slurm").iterdir()] == []
    directives = re.findall(r"^#SBATCH (.*)$", shown.stdout, re.M)
    assert directives[-1] == "--partition=gpu" and {"--array=1-3", "--requeue", "--gres=gpu:1"} < set(directives)
    worker = f"grid {tmp_path}/dozen.yaml --only draw=0 --device cuda --results {tmp_path} --slots 1 --no-wait --keep"
    assert f"-m benchmark {worker}" in shown.stdout and "12 runs of the experiment dozen, by 3 workers" in shown.stdout
    checked = subprocess.run(["bash", "-n"], input=shown.stdout, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    assert invoke(*line, "--print", "--dry-run").stdout.startswith("#!/bin/bash")
    said = json.loads(invoke(*line, "--print", "--json").stdout)
    assert said["experiment"] == "dozen" and said["script"].startswith("#!/bin/bash")
    for device in ((), ("--device", "cuda:1")):
        assert "--device cuda or" in one_line_error(invoke("grid", "demo", "--launcher", "slurm", *device))
    assert "leave out --print" in one_line_error(invoke(*line, "--print", "--retry", "failed"))
    away = command(*line, env={**os.environ, "PATH": str(Path(sys.executable).parent)})
    assert "there is no sbatch on this machine" in one_line_error(away)


def test_options_are_quoted_where_sbatch_would_split_or_cut_them():
    written = {
        "--time=08:00:00": "--time=08:00:00", "--exclusive": "--exclusive", "--comment=a b": '--comment="a b"',
        "--comment=#1": '--comment="#1"', "--output=/a/it's": '--output="/a/it\'s"', '--comment="': '--comment="\\""',
    }
    assert {option: quoted(option) for option in written} == written


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A SLURM of our own; its commands find it by SLURM_CONF."""
    if not shutil.which("slurmctld") or os.geteuid() != 0:
        pytest.skip("needs root and Debian's packages slurm-wlm and munge")
    folder = tmp_path / "slurm"
    try:
        started = subprocess.run([HERE / "start", folder], capture_output=True, text=True)
        assert started.returncode == 0, started.stderr
        monkeypatch.setenv("SLURM_CONF", started.stdout.strip().partition("SLURM_CONF=")[2])
        yield
    finally:
        subprocess.run([HERE / "stop", folder], check=True)


def jobs(number: str) -> dict[str, dict[str, str]]:
    """What SLURM says of the tasks of an array, by their place in it."""
    line = ["scontrol", "show", "job", "--oneliner", number]
    shown = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()
    tasks = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in shown]
    return {task["ArrayTaskId"]: task for task in tasks}


def wait_until(condition, seconds: float):
    deadline = time.monotonic() + seconds
    while not (met := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)
    return met


@pytest.mark.slurm
def test_an_array_of_workers_survives_its_time_limit_and_a_failing_run(slurm, tmp_path, monkeypatch):
    path, slow, results = write_experiment(tmp_path), tmp_path / "slow", tmp_path / "it's a folder #1"
    path = path.rename(path.with_name("my dozen.yaml"))
    monkeypatch.setenv("SLOW", str(slow))
    slow.touch()
    line = ["grid", path, "--launcher", "slurm", "--device", "cpu", "--slots", 4, "--results", results, *OPTIONS]
    submitted = command(*line, "--json")
    assert submitted.returncode == 0, submitted.stderr
    number = json.loads(submitted.stdout)["submitted"].split()[-1]

    # the long run's task gets a time limit of its own, and is told in time
    steps = tmp_path / "slow.steps"
    wait_until(lambda: steps.exists() and len(steps.read_text().splitlines()) > 20, 120)
    lock = next(results.glob("runs/slow-*/lock"))
    environment = Path(f"/proc/{read_lock(lock).holder.pid}/environ").read_text().split("\0")
    task = next(entry.partition("=")[2] for entry in environment if entry.startswith("SLURM_ARRAY_TASK_ID="))
    run_time = jobs(number)[task]["RunTime"].split(":")
    limit = int(run_time[1]) + 1
    subprocess.run(["scontrol", "update", f"JobId={number}_{task}", f"TimeLimit={limit}"], check=True)
    wait_until(lambda: jobs(number)[task]["Restarts"] == "1", 120)
    subprocess.run(["scontrol", "update", f"JobId={number}_{task}", "TimeLimit=60"], check=True)  # else told once more
    assert not list(results.glob("records/slow-*.json")) and list(results.glob("runs/slow-*/checkpoint.pt"))
    slow.unlink()
    wait_until(lambda: all(job["JobState"] in ("COMPLETED", "FAILED") for job in jobs(number).values()), 200)

    logs = {log.name.rpartition("_")[2].removesuffix(".log"): log.read_text() for log in results.glob("slurm/*.log")}
    said = json.loads(invoke("status", path, "--device", "cpu", "--results", results, "--json").stdout)
    assert said["states"] == {"done": 11, "failed": 1} and said["rows"]["broken"] == {"failed": 1}, logs
    ended = jobs(number)
    failed = {place for place, job in ended.items() if job["JobState"] == "FAILED"}
    assert len(ended) == 4 and len(failed) == 1, logs
    assert [place for place, log in logs.items() if "draw 0: failed: AttributeError" in log] == list(failed)
    assert [place for place, job in ended.items() if job["Restarts"] != "0"] == [task]
    assert "stopped after step" in logs[task]

    # no step of the long run was lost or done twice, and it ended where it would have ended
    taken = [tuple(map(int, line.split())) for line in steps.read_text().splitlines()]
    assert [step for step, _ in taken] == list(range(400)) and len({process for _, process in taken}) == 2
    alone, _ = run_or_load(read_experiment(str(path)).cells[0].request, RunOptions(tmp_path / "alone"))
    record = json.loads(next(results.glob("records/slow-*.json")).read_text())
    assert record["weights_sha256"] == alone["weights_sha256"]
    again = invoke(*line)
    assert again.returncode == 1 and "11 done, 1 failed" in again.stdout, "nothing is missing: nothing is submitted"
