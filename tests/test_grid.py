"""Grids: several workers, a crash that costs one run, and nothing done twice."""

from __future__ import annotations

import fcntl
import json
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from benchmark.runs.execute import execute
from benchmark.runs.experiment import read_experiment
from benchmark.runs.folder import RunFolder, is_held
from benchmark.runs.request import specify
from tests.conftest import ROOT, invoke, one_line_error

EXPERIMENT = """about: A test.
preset: demo
datasets: [synthetic]
draws: [0, 1]
rows:
  plain: {method: supervised, set: &tiny {data.size: 32, train.steps: 4, train.batch_labelled: 2, evaluate.times: 1}}
  fragile: {method: "FRAGILE:Fragile", set: *tiny}
"""
FRAGILE = """
import os
from methods.supervised import Supervised

class Fragile(Supervised):
    '''Nobody 2026: falls over in the second draw.'''

    def losses(self, labelled, unlabelled, clock):
        if os.environ.get("FALL") and not os.path.exists(os.environ["FALL"]):
            open(os.environ["FALL"], "w").close()
            os._exit(9)
        return super().losses(labelled, unlabelled, clock)
"""


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "fragile.py").write_text(FRAGILE)
    path = tmp_path / "mine.yaml"
    path.write_text(EXPERIMENT.replace("FRAGILE", str(tmp_path / "fragile.py")))
    return path


def test_a_crash_costs_one_run_and_the_next_grid_makes_it_good(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("FALL", str(tmp_path / "fell"))
    dry = json.loads(invoke("grid", experiment, "--dry-run", "--results", tmp_path, "--json").stdout)
    assert dry["states"] == {"missing": 4} and not (tmp_path / "records").exists()
    first = invoke("grid", experiment, "--slots", 2, "--results", tmp_path, "--json")
    assert first.returncode == 3, first.stderr
    assert json.loads(first.stdout)["states"] == {"done": 3, "missing": 1}
    assert "crashed: its process ended with exit code 9" in first.stderr
    kept = {path.name: path.read_bytes() for path in (tmp_path / "records").glob("*.json")}
    second = invoke("grid", experiment, "--slots", 2, "--results", tmp_path, "--json")
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["states"] == {"done": 4}
    assert all((tmp_path / "records" / name).read_bytes() == content for name, content in kept.items())
    assert len(list((tmp_path / "records").glob("*.json"))) == 4
    # a grid's run is the run of its own command: same specification, same weights, whoever runs it
    cell = next(cell for cell in dry["cells"] if cell["row"] == "plain")
    alone = invoke(*shlex.split(cell["command"])[3:], "--results", tmp_path / "alone", "--json")
    record = json.loads((tmp_path / "records" / f"{cell['run_id']}.json").read_text())
    assert json.loads(alone.stdout)["weights_sha256"] == record["weights_sha256"]


def test_ctrl_c_saves_and_the_same_command_ends_with_the_same_weights(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(EXPERIMENT.split("  fragile")[0].replace("train.steps: 4", "train.steps: 200").replace("0, 1", "0"))
    line = [sys.executable, "-m", "benchmark", "grid", path, "--slots", "1", "--results", tmp_path, "--json"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        begun = time.monotonic()
        while not any(log.stat().st_size for log in tmp_path.glob("runs/*/log.jsonl")):
            assert process.poll() is None and time.monotonic() - begun < 200
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 75 and "Traceback" not in err, err
    assert json.loads(out)["states"] == {"missing": 1} and "interrupted: stopped after step" in err
    ended = invoke("grid", path, "--slots", 1, "--results", tmp_path, "--json")
    cell = json.loads(ended.stdout)["cells"][0]
    assert ended.returncode == 0 and cell["state"] == "done"
    record = json.loads((tmp_path / "records" / f"{cell['run_id']}.json").read_text())
    alone = invoke(*shlex.split(cell["command"])[3:], "--results", tmp_path / "alone", "--json")
    assert json.loads(alone.stdout)["weights_sha256"] == record["weights_sha256"]


def test_states_are_those_of_the_records_and_of_the_claims(experiment, tmp_path, monkeypatch):
    def state():
        only = ("--only", "row=plain", "--only", "draw=0")
        shown = invoke("grid", experiment, *only, "--dry-run", "--results", tmp_path)
        assert shown.returncode == 0, shown.stderr
        return shown.stdout.strip()

    cell = read_experiment(str(experiment)).cells[0]
    spec, _ = specify(cell.request, "cpu")
    assert state() == "1 missing"
    with RunFolder(tmp_path, spec).claimed():
        assert state() == "1 running"
    assert state() == "1 missing"
    execute(cell.request, results=tmp_path)
    assert state() == "1 done"
    path = tmp_path / "records" / f"{spec.run_id}.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"numerics": record["numerics"] | {"engine": 0}}))
    assert state() == "1 stale"
    path.write_text(json.dumps(record | {"status": "diverged", "reason": "'x' was nan"}))
    assert state() == "1 diverged"


def test_a_look_at_a_claim_does_not_refuse_it(tmp_path, experiment):
    """`is_held` locks for a moment; a run that starts in that moment waits instead of giving up."""
    folder = RunFolder(tmp_path, specify(read_experiment(str(experiment)).cells[0].request, "cpu")[0])
    with folder.claimed():
        pass
    with open(folder.path / "claim", "rb") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.3, fcntl.flock, (look, fcntl.LOCK_UN)).start()
        with folder.claimed():
            assert is_held(folder.path)
    assert not is_held(folder.path)


def test_mistakes_are_one_line(experiment, tmp_path):
    assert "Did you mean 'demo'" in one_line_error(invoke("grid", "dmeo"))
    assert "--slots" in one_line_error(invoke("grid", "demo", "--slots", 0))
    assert "KEY=VALUE" in one_line_error(invoke("grid", "demo", "--only", "method"))
    both = invoke("grid", "main", "--only", "method=semimoe", "--only", "ratio=100", "--dry-run")
    assert "no cell has all of these" in one_line_error(both)
    assert "given once" in one_line_error(invoke("grid", "main", "--only", "ratio=10", "--only", "ratio=20"))
    assert "runs on the CPU" in one_line_error(invoke("grid", experiment, "--gpus", "0", "--results", tmp_path))
    one = EXPERIMENT.split("  fragile")[0]
    experiment.write_text(one.replace("evaluate.times: 1", "evaluate.times: 1, method.nothing: 1"))
    assert "line 6" in one_line_error(invoke("grid", experiment, "--dry-run", "--results", tmp_path))


def test_a_hyper_parameter_out_of_range_is_told_before_anything_runs(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "preset: demo\ndatasets: [synthetic]\nrows:\n  wrong: {method: fixmatch, set: {method.threshold: 1.5}}\n"
    )
    complaint = one_line_error(invoke("grid", path, "--results", tmp_path))
    assert "line 4" in complaint and "method.threshold must lie in [0, 1]" in complaint
    path.write_text("preset: demo\ndatasets: [synthetic]\nrows:\n  wrong: {method: fixmatch, set: [1]}\n")
    assert "set must be a mapping" in one_line_error(invoke("grid", path, "--results", tmp_path))
