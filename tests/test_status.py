"""What `status` says: states, who is at what, how long it will take, and never a guess."""

from __future__ import annotations

import json
import os
import shlex
import time
from dataclasses import replace

import pytest

from benchmark.lock_holder import Holder
from benchmark.runs.estimate import Estimate, Speeds, spoken
from benchmark.runs.execute import execute
from benchmark.runs.experiment import read_experiment
from benchmark.runs.folder import RunFolder
from benchmark.runs.request import specify
from tests.conftest import invoke, one_line_error

EXPERIMENT = """preset: demo
datasets: [synthetic]
draws: [0, 1, 2]
rows:
  plain: {method: supervised, set: &tiny {data.size: 32, train.steps: 4, train.batch_labelled: 2, evaluate.times: 1}}
  other: {method: mean_teacher, set: *tiny}
"""


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(EXPERIMENT)
    return path


def status(*arguments):
    result = invoke("status", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_without_runs_there_is_no_estimate(experiment, tmp_path):
    said = status(experiment, "--results", tmp_path)
    assert said["states"] == {"missing": 6} and said["running"] == []
    assert said["device_seconds_left"] is None and said["unmeasured"] == ["mean_teacher", "supervised"]
    assert said["continue"] == f"python -m benchmark grid {experiment} --results {tmp_path}"
    shown = invoke("status", experiment, "--results", tmp_path).stdout
    assert "no estimate of mean_teacher, supervised" in shown and "6 missing" in shown
    assert status("--results", tmp_path) == {"states": {}, "running": []}


def test_time_left_is_measured_steps_times_missing_steps(experiment, tmp_path):
    cells = read_experiment(str(experiment)).cells
    for cell in cells[:2]:
        execute(cell.request, results=tmp_path)
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "records").glob("*.json"))]
    for record, seconds in zip(records, (8.0, 16.0), strict=True):  # 2 and 4 seconds a step
        path = tmp_path / "records" / f"{record['run_id']}.json"
        path.write_text(json.dumps(record | {"cost": record["cost"] | {"wall_seconds": seconds}}))
    one = status(experiment, "--only", "row=plain", "--results", tmp_path)
    assert one["states"] == {"done": 2, "missing": 1} and one["device_seconds_left"] == pytest.approx(3 * 4)
    assert one["continue"] == f"python -m benchmark grid {experiment} --only row=plain --results {tmp_path}"
    both = status(experiment, "--results", tmp_path)
    assert both["device_seconds_left"] is None and both["unmeasured"] == ["mean_teacher"]
    device = records[0]["environment"]["device"]
    planned = invoke("grid", experiment, "--dry-run", "--results", tmp_path).stderr
    assert f"4 to run: about 12 s of {device}, 6 s in 2 slots, by runs measured there; not counted: mean_t" in planned
    # a run of other steps and another learning rate is like these; of another size, it is not
    speeds = Speeds(tmp_path, "cpu")
    spec, split, *_ = specify(cells[2].request, "cpu")
    longer = spec.with_values({"train.steps": 100, "optimiser.lr": 1.0})
    assert speeds.estimate([(longer, split)]).seconds == pytest.approx(300)
    assert speeds.estimate([(spec.with_values({"data.size": 64}), split)]) == Estimate(0, 0, ("supervised",), device)
    assert Speeds(tmp_path, "cuda").estimate([(spec, split)]) == Estimate(0, 0, ("supervised",), None)


def test_runs_that_would_crowd_a_gpu_are_told_of(experiment, tmp_path):
    cell = read_experiment(str(experiment)).cells[0]
    execute(cell.request, results=tmp_path)
    path = next((tmp_path / "records").glob("*.json"))
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"cost": record["cost"] | {"peak_memory_bytes": 3 * 2**30}}))
    estimate = Speeds(tmp_path, "cpu").estimate([specify(cell.request, "cpu")[:2]])
    assert estimate.memory == 3 * 2**30 and estimate.crowd(2, 6 * 2**30) == ""
    told = estimate.crowd(4, 7 * 2**30)
    assert told == "4 runs a GPU may take 12.0 GiB, by runs measured there, and 7.0 are free: 2 would fit"
    assert Estimate(0, 0, ("supervised",), None).crowd(99, 0) == ""  # nothing is measured


def test_a_running_run_tells_how_far_it_is_and_who_is_at_it(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIHISTO_BEAT", "0.05")
    spec, *_ = specify(read_experiment(str(experiment)).cells[0].request, "cpu")
    folder = RunFolder(tmp_path, spec)
    with folder.claimed():
        folder.tell(30, 40, {}, 60.0)
        deadline = time.monotonic() + 20
        while (said := status(experiment, "--results", tmp_path))["running"][0]["step"] is None:
            assert time.monotonic() < deadline
        (running,) = said["running"]
        assert said["states"] == {"running": 1, "missing": 5}
        assert (running["row"], running["run_id"], running["process"]) == ("plain", spec.run_id, os.getpid())
        assert (running["step"], running["steps"], running["seconds_per_step"]) == (30, 40, 2.0)
        assert running["seconds_left"] == 20.0 and not running["seems_dead"]
        alone = status(experiment, "--only", "draw=0", "--only", "row=plain", "--results", tmp_path)
        assert alone["device_seconds_left"] == alone["seconds_left"] == 20.0
        shown = invoke("status", "--results", tmp_path).stdout
        assert "1 running" in shown and "step 30/40, 2.000 s a step, 20 s left" in shown
    assert status("--results", tmp_path)["running"] == []


def test_a_machine_that_says_nothing_any_more_is_named(experiment, tmp_path, monkeypatch):
    spec, *_ = specify(read_experiment(str(experiment)).cells[0].request, "cpu")
    folder = RunFolder(tmp_path, spec)
    with folder.claimed():
        pass
    stranger = replace(Holder.me(), host="node07", machine="another boot")
    os.rename(folder.path / "claim" / "free", file := folder.path / "claim" / stranger.name)
    assert not status(experiment, "--results", tmp_path)["running"][0]["seems_dead"]
    os.utime(file, (time.time() - 7200, time.time() - 7200))
    shown = invoke("status", experiment, "--results", tmp_path).stdout
    assert f"process {os.getpid()} on node07); no sign of life for 2.0 h" in shown


def test_the_command_that_continues_can_be_given_as_it_is_shown(tmp_path):
    path, results = tmp_path / "my table.yaml", tmp_path / "my results"
    path.write_text(EXPERIMENT.replace("other:", "another row:"))
    line = ["status", path, "--only", "row=another row", "--shard", "1/2", "--device", "cpu", "--results", results]
    shown = invoke(*line).stdout.splitlines()[-1].removeprefix("continue with: ")
    assert shlex.split(shown) == ["python", "-m", "benchmark", "grid", *map(str, line[1:])]


def test_without_an_experiment_a_damaged_record_is_counted_and_a_done_run_is_not_running(experiment, tmp_path):
    record, _ = execute(read_experiment(str(experiment)).cells[0].request, results=tmp_path)
    (tmp_path / "records" / "torn.json").write_text("{")
    claim = tmp_path / "runs" / record["run_id"] / "claim"
    os.rename(claim / "free", claim / replace(Holder.me(), host="node07", machine="another boot").name)
    assert status("--results", tmp_path) == {"states": {"done": 1, "damaged": 1}, "running": []}
    for part in (("--only", "row=plain"), ("--shard", "1/2")):
        assert "name the experiment" in one_line_error(invoke("status", *part, "--results", tmp_path))


def test_times_are_spoken():
    said = {0.4: "0 s", 59: "59 s", 100: "1.7 min", 3600: "1.0 h", 7200: "2.0 h", 200_000: "2.3 days"}
    assert {seconds: spoken(seconds) for seconds in said} == said
