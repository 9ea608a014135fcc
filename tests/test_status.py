"""What `status` says: states, who is at what, how long it will take, and never a guess."""

import json
import os
import shlex
import time
from dataclasses import replace

import pytest

from benchmark.cli.grid import spoken
from benchmark.errors import Interrupted
from benchmark.runs import lock as lock_module
from benchmark.runs.experiment import read_experiment
from benchmark.runs.lock import Holder
from benchmark.runs.request import specify
from benchmark.runs.run import RunOptions, run_or_load
from benchmark.runs.run_files import RunFolder
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
    assert said["device_seconds_left"] is None and said["interrupted"] == {}
    assert said["continue"] == f"python -m benchmark grid {experiment} --results {tmp_path}"
    shown = invoke("status", experiment, "--results", tmp_path).stdout
    assert "no estimate yet, since none of these runs is done" in shown and "6 missing" in shown
    assert status("--results", tmp_path) == {"states": {}, "running": [], "interrupted": {}}


def test_time_left_is_the_median_of_finished_runs(experiment, tmp_path):
    cells = read_experiment(str(experiment)).cells
    for cell in cells[:2]:
        run_or_load(cell.request, RunOptions(tmp_path))
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "records").glob("*.json"))]
    for record, seconds in zip(records, (8.0, 16.0), strict=True):
        path = tmp_path / "records" / f"{record['run_id']}.json"
        path.write_text(json.dumps(record | {"cost": record["cost"] | {"wall_seconds": seconds}}))
    one = status(experiment, "--only", "row=plain", "--results", tmp_path)
    assert one["states"] == {"done": 2, "missing": 1} and one["device_seconds_left"] == 12
    assert one["continue"] == f"python -m benchmark grid {experiment} --only row=plain --results {tmp_path}"
    assert status(experiment, "--results", tmp_path)["device_seconds_left"] == 4 * 12, "a row of its own, or all rows"
    device = records[0]["environment"]["device"]
    planned = invoke("grid", experiment, "--dry-run", "--slots", 2, "--results", tmp_path).stderr
    assert f"4 to run: estimated 48 s in total, 24 s with 2 workers (timed on {device})" in planned
    assert f"see their progress with: python -m benchmark status {experiment} --results {tmp_path}\n" in planned


def test_a_running_run_tells_how_far_it_is_and_who_is_at_it(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "HEARTBEAT_INTERVAL", 0.05)
    spec, *_ = specify(read_experiment(str(experiment)).cells[0].request, "cpu")
    folder = RunFolder(tmp_path, spec)
    with folder.locked():
        folder.lock.progress = {"step": 30, "steps": 40, "seconds_per_step": 2.0}
        deadline = time.monotonic() + 20
        while (said := status(experiment, "--results", tmp_path))["running"][0]["step"] is None:
            assert time.monotonic() < deadline
        (running,) = said["running"]
        assert said["states"] == {"running": 1, "missing": 5}
        assert (running["row"], running["run_id"], running["process"]) == ("plain", spec.run_id, os.getpid())
        assert (running["step"], running["steps"], running["seconds_per_step"]) == (30, 40, 2.0)
        assert running["seconds_left"] == 20.0 and running["silent_seconds"] == 0
        shown = invoke("status", "--results", tmp_path).stdout
        assert "1 running" in shown and "step 30/40, 2.000 s a step, 20 s left" in shown
    assert status("--results", tmp_path)["running"] == []


def stranger_at(results, run_id):
    """A run that a process of another machine has locked; the lock's file."""
    folder = results / "runs" / run_id / "lock"
    folder.mkdir(parents=True)
    file = folder / replace(Holder.me(), host="node07", machine="another boot").name
    file.touch()
    return file


def test_a_machine_without_heartbeats_is_named(experiment, tmp_path):
    spec, *_ = specify(read_experiment(str(experiment)).cells[0].request, "cpu")
    file = stranger_at(tmp_path, spec.run_id)
    assert "no heartbeat" not in invoke("status", experiment, "--results", tmp_path).stdout
    os.utime(file, (time.time() - 7200, time.time() - 7200))
    shown = invoke("status", experiment, "--results", tmp_path).stdout
    assert f"process {os.getpid()} on node07); no heartbeat for 2.0 h by this machine's clock: if it is dead" in shown


def test_an_interrupted_run_is_named_with_its_last_step(experiment, tmp_path):
    experiment.write_text(experiment.read_text().replace("train.steps: 4", "train.steps: 40"))
    request = read_experiment(str(experiment)).cells[0].request
    looks = iter([False] * 20 + [True] * 9)
    with pytest.raises(Interrupted):
        run_or_load(request, RunOptions(tmp_path), asked_to_stop=lambda: next(looks))
    run_id = specify(request, "cpu").spec.run_id
    (step,) = status("--results", tmp_path)["interrupted"].values()
    assert status("--results", tmp_path)["states"] == {"interrupted": 1} and 1 < step < 40
    assert f"interrupted: {run_id}: after step {step}" in invoke("status", "--results", tmp_path).stdout
    assert status(experiment, "--results", tmp_path)["interrupted"] == {run_id: step}


def test_the_command_that_continues_can_be_given_as_it_is_shown(tmp_path):
    path, results = tmp_path / "my table.yaml", tmp_path / "my results"
    path.write_text(EXPERIMENT.replace("other:", "another row:"))
    line = ["status", path, "--only", "row=another row", "--shard", "1/2", "--device", "cpu", "--results", results]
    shown = invoke(*line).stdout.splitlines()[-1].removeprefix("continue with: ")
    assert shlex.split(shown) == ["python", "-m", "benchmark", "grid", *map(str, line[1:])]


def test_without_an_experiment_a_damaged_record_is_counted_and_a_done_run_is_not_running(experiment, tmp_path):
    record, _ = run_or_load(read_experiment(str(experiment)).cells[0].request, RunOptions(tmp_path))
    (tmp_path / "records" / "torn.json").write_text("{")
    stranger_at(tmp_path, record["run_id"])
    assert status("--results", tmp_path) == {"states": {"done": 1, "damaged": 1}, "running": [], "interrupted": {}}
    for part in (("--only", "row=plain"), ("--shard", "1/2")):
        assert "name the experiment" in one_line_error(invoke("status", *part, "--results", tmp_path))


def test_times_are_spoken():
    said = {0.4: "0 s", 59: "59 s", 100: "1.7 min", 3600: "1.0 h", 7200: "2.0 h", 200_000: "2.3 days"}
    assert {seconds: spoken(seconds) for seconds in said} == said
