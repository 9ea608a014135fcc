"""Grids: runs side by side, a crash that costs one run, and nothing done twice."""

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from benchmark.console import StopSignals
from benchmark.data.load import load_dataset, load_prepared
from benchmark.errors import UserError
from benchmark.runs import launch
from benchmark.runs import lock as lock_module
from benchmark.runs.experiment import read_experiment
from benchmark.runs.launch import Queue, environments, perform
from benchmark.runs.lock import Holder
from benchmark.runs.plan import plan
from benchmark.runs.request import specify
from benchmark.runs.run import RunOptions, run_or_load
from benchmark.runs.run_files import RunFolder, digest
from benchmark.runs.verify import sample
from tests.conftest import ROOT, edit_json, handlers_kept, invoke, one_line_error

pytestmark = pytest.mark.slow
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
from contextlib import nullcontext
from pathlib import Path
from filelock import FileLock
from methods.supervised import Supervised

class Fragile(Supervised):
    '''Nobody 2026: dies, or raises, as often as the file $FALL has lines left.'''

    def losses(self, labelled, unlabelled, clock):
        print("a method that talks")
        file = Path(os.environ.get("FALL", os.devnull))
        with FileLock(f"{file}.lock") if "FALL" in os.environ else nullcontext():  # runs side by side read it
            first, _, rest = file.read_text().partition("\\n")
            if first:
                file.write_text(rest)
        if first:
            if first == "raise":
                print(labelled.strong)
            if first == "raise without a word":
                raise AssertionError
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
    fall = tmp_path / "fall"
    monkeypatch.setenv("FALL", str(fall))
    fall.write_text("exit\n" * 3)  # one of the two runs dies as often as it is tried, or both die and are tried again
    dry = json.loads(invoke("grid", experiment, "--dry-run", "--results", tmp_path, "--json").stdout)
    assert dry["states"] == {"missing": 4} and not (tmp_path / "records").exists()
    both = ("--only", "row=fragile", "--only", "row=plain", "--only", "draw=0")
    assert invoke("grid", experiment, *both, "--dry-run", "--results", tmp_path).stdout.split()[-2:] == ["2", "missing"]
    only = ("--only", "row=fragile", "--only", "draw=0")
    first = invoke("grid", experiment, *only, "--results", tmp_path, "--json")
    assert first.returncode == 1, first.stderr
    assert json.loads(first.stdout)["states"] == {"missing": 1}
    assert first.stderr.count("died: its process ended with exit code 9; it is tried again") == 2
    assert first.stderr.count("died") == 3
    fall.write_text("raise\nexit\n")
    second = invoke("grid", experiment, "--slots", 2, "--results", tmp_path, "--json")
    assert second.returncode == 1, second.stderr
    assert json.loads(second.stdout)["states"] == {"done": 3, "failed": 1}
    assert "see the method's `views`, raised at fragile.py:20 in losses (traceback in runs/fragile-" in second.stderr
    report = next(tmp_path.glob("runs/*/error.txt")).read_text()
    assert report.startswith("Traceback") and "fragile.py" in report
    kept = {path.name: path.read_bytes() for path in (tmp_path / "records").glob("*.json")}
    kept = {name: content for name, content in kept.items() if b'"status": "done"' in content}
    assert len(kept) == 3
    third = invoke("grid", experiment, "--retry", "failed", "--results", tmp_path, "--json")
    assert third.returncode == 0, third.stderr
    assert json.loads(third.stdout)["states"] == {"done": 4}
    assert all((tmp_path / "records" / name).read_bytes() == content for name, content in kept.items())
    assert len(list((tmp_path / "records").glob("*.json"))) == 4
    assert not list(tmp_path.glob("runs/*/error.txt")), "what has been made good is not told any more"
    # a grid's run is the run of its own command: same specification, same weights, whoever runs it
    cell = next(cell for cell in dry["cells"] if cell["row"] == "plain")
    alone = invoke(*shlex.split(cell["command"])[3:], "--results", tmp_path / "alone", "--json")
    record = json.loads((tmp_path / "records" / f"{cell['run_id']}.json").read_text())
    assert json.loads(alone.stdout)["weights_sha256"] == record["weights_sha256"]


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path):
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
    assert err.endswith("stopped; the same command continues\n")
    ended = invoke("grid", path, "--slots", 1, "--results", tmp_path, "--json")
    (cell,) = json.loads(ended.stdout)["cells"]
    assert ended.returncode == 0 and cell["state"] == "done"
    steps = [json.loads(line)["step"] for line in next(tmp_path.glob("runs/*/log.jsonl")).read_text().splitlines()]
    assert steps == list(range(1, 201)), "none was lost or done twice"


def test_states_are_those_of_the_records_and_of_the_locks(experiment, tmp_path, monkeypatch):
    def state():
        only = ("--only", "row=plain", "--only", "draw=0")
        shown = invoke("grid", experiment, *only, "--dry-run", "--results", tmp_path)
        assert shown.returncode == 0, shown.stderr
        return shown.stdout.strip()

    cell = read_experiment(str(experiment)).cells[0]
    spec, *_ = specify(cell.request, "cpu")
    assert state() == "1 missing"
    with RunFolder(tmp_path, spec).locked():
        assert state() == "1 running"
    assert state() == "1 missing"
    run_or_load(cell.request, RunOptions(tmp_path))
    assert state() == "1 done"
    path = tmp_path / "records" / f"{spec.run_id}.json"
    numerics = edit_json(path, numerics={"engine": 0, "method": 1, "dataset": 1})["numerics"]
    assert state() == "1 stale"
    edit_json(path, numerics=numerics, status="diverged", reason="'x' was nan")
    assert state() == "1 diverged"


def test_a_run_of_another_machine_is_left_to_it_while_it_lives(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "HEARTBEAT_TIMEOUT", 6.0)
    spec, *_ = specify(read_experiment(str(experiment)).cells[0].request, "cpu")
    stranger, stop = replace(Holder.me(), host="node07", machine="another boot"), threading.Event()
    file = RunFolder(tmp_path, spec).path / "lock" / stranger.name
    file.parent.mkdir(parents=True)
    file.touch()

    def beat():
        for number in itertools.count():
            with file.open("r+b") as stream:  # as a holder does: never empty, since two empty looks are the same
                stream.write(json.dumps({"heartbeat": number}).encode())
            if stop.wait(0.05):
                return

    beating = threading.Thread(target=beat)
    beating.start()
    only = ("--only", "row=plain", "--slots", 1, "--results", tmp_path, "--json")
    try:
        left = invoke("grid", experiment, *only, "--no-wait")
        assert left.returncode == 3 and "1 runs are left to the processes that work on them" in left.stderr, left.stderr
        assert json.loads(left.stdout)["states"] == {"done": 1, "running": 1}
        threading.Timer(3, stop.set).start()  # the other machine dies while this grid waits for it
        waited = invoke("grid", experiment, *only)
    finally:
        stop.set()
        beating.join()
    assert waited.returncode == 0 and json.loads(waited.stdout)["states"] == {"done": 2}, waited.stderr
    text = f"waiting for 1 run of other processes: process {os.getpid()} on node07 works on {spec.run_id}; Ctrl-C"
    assert text in waited.stderr


def test_a_record_is_replaced_only_where_it_is_the_one_that_was_planned(experiment, tmp_path):
    """Another grid may have tried a failed run again, or finished one, since the plan was made."""
    (before,) = plan(read_experiment(str(experiment)), tmp_path, "cpu", {"row": ["plain"], "draw": ["0"]})
    request = before.cell.request
    assert before.digest == ""
    options = RunOptions(tmp_path, expected_digest=before.digest)
    record, was_there = run_or_load(request, options)
    assert not was_there and run_or_load(request, options) == (record, True)
    path = tmp_path / "records" / f"{record['run_id']}.json"
    failed = {key: value for key, value in record.items() if key != "counts_sha256"} | {"status": "failed"}
    path.write_text(json.dumps(failed | {"reason": "a bug"}))
    assert run_or_load(request, options) == (failed | {"reason": "a bug"}, True)
    result = perform(request, options, lambda: False)
    assert result == ("by another grid", "failed: a bug") and result.status not in launch.FAILURES
    (after,) = plan(read_experiment(str(experiment)), tmp_path, "cpu", {"row": ["plain"], "draw": ["0"]})
    assert after.digest == digest(path)
    path.write_text(json.dumps(failed))  # the other grid's: failed, too
    assert run_or_load(request, RunOptions(tmp_path, expected_digest=after.digest)) == (failed, True)
    again, was_there = run_or_load(request, RunOptions(tmp_path, expected_digest=digest(path)))
    assert again["status"] == "done" and not was_there and path.with_name(f"{path.name}.old1").exists()


def test_a_lock_that_cannot_be_read_costs_its_own_run(experiment, tmp_path, monkeypatch):
    cells = [cell for cell in read_experiment(str(experiment)).cells if cell.row == "plain"]
    spec, *_ = specify(cells[0].request, "cpu")
    lock = RunFolder(tmp_path, spec).path / "lock"
    lock.mkdir(parents=True)
    (lock / "notes.txt").touch()
    line = ("grid", experiment, "--only", "row=plain", "--slots", 1, "--results", tmp_path, "--json")
    ended = invoke(*line)
    assert ended.returncode == 1 and json.loads(ended.stdout)["states"] == {"done": 1, "missing": 1}, ended.stderr
    assert "refused: " in ended.stderr and "notes.txt: not a lock's file; remove it" in ended.stderr

    looks = iter([OSError(116, "Stale file handle"), None])

    def away(folder):
        if isinstance(error := next(looks), OSError):
            raise error

    monkeypatch.setattr("benchmark.runs.lock.read_lock", away)
    planned = plan(read_experiment(str(experiment)), tmp_path, "cpu", {"row": ["plain"], "draw": ["0"]})
    queue = Queue(planned, RunOptions(tmp_path))
    assert queue.next() is None and len(queue) == 1 and not queue.all_alive
    queue._looked = 0.0
    assert queue.next() is not None


def test_no_exception_is_without_words(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("FALL", str(tmp_path / "fall"))
    (tmp_path / "fall").write_text("raise without a word\n")
    only = ("--only", "row=fragile", "--only", "draw=0")
    shown = invoke("grid", experiment, *only, "--dry-run", "--results", tmp_path, "--json").stdout
    (cell,) = json.loads(shown)["cells"]
    alone = invoke(*shlex.split(cell["command"])[3:], "--results", tmp_path / "alone")
    reason = "failed: AssertionError, raised at fragile.py:22 in losses (traceback in runs/fragile-"
    assert alone.returncode == 1 and reason in alone.stdout and "Traceback" in alone.stderr


def test_stale_records_are_made_anew_on_demand(experiment, tmp_path):
    line = ("grid", experiment, "--only", "row=plain", "--slots", 1, "--results", tmp_path, "--json")
    assert invoke(*line).returncode == 0
    old, current = sorted((tmp_path / "records").glob("*.json"))
    before = {path: path.read_bytes() for path in (tmp_path / "records").iterdir()}
    record = edit_json(old, numerics={"engine": 0, "method": 1, "dataset": 1})
    left = invoke(*line)
    assert left.returncode == 3 and json.loads(left.stdout)["states"] == {"done": 1, "stale": 1}
    again = invoke(*line, "--retry", "stale")
    assert again.returncode == 0 and json.loads(again.stdout)["states"] == {"done": 2}, again.stderr
    assert json.loads(old.read_text())["weights_sha256"] == record["weights_sha256"]
    assert json.loads(old.with_name(f"{old.name}.old1").read_text())["numerics"]["engine"] == 0
    assert current.read_bytes() == before[current] and len(list((tmp_path / "records").iterdir())) == 6


def test_a_closed_terminal_is_a_wish_to_stop_unless_it_is_to_be_ignored():
    for ours, asked in ((signal.SIG_IGN, False), (signal.SIG_DFL, True)):
        with handlers_kept():
            signal.signal(signal.SIGHUP, ours)
            stop = StopSignals()
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.asked is asked


def test_who_is_asked_to_stop_does_not_claim_that_a_run_is_saved_where_there_may_be_none(capfd):
    with handlers_kept():
        StopSignals()
        os.kill(os.getpid(), signal.SIGTERM)
    told = capfd.readouterr().err
    assert told.startswith("stopping: a run in training is saved after its next step")


def test_slots_of_a_machine(monkeypatch):
    cpu, gpu, sixth = map(torch.device, ("cpu", "cuda", "cuda:5"))
    assert len(environments(cpu, None, None)) >= 1 and len(environments(cpu, 7, None)) == 7
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert [len(environments(gpu, None, gpus)) for gpus in (None, "0", "0,1")] == [8, 1, 2]
    assert environments(sixth, 2, None) == [{"CUDA_VISIBLE_DEVICES": "5"}] * 2
    with pytest.raises(UserError, match="--gpus 7,8: there is no 8; there is 0, 1, "):
        environments(gpu, None, "7,8")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert len(environments(gpu, None, None)) == 1, "a plan for another machine"


def test_shards_are_disjoint_and_together_the_whole(experiment, tmp_path):
    parts = []
    for part in (1, 2, 3):
        shown = invoke("grid", experiment, "--dry-run", "--shard", f"{part}/3", "--results", tmp_path, "--json")
        parts.append([cell["run_id"] for cell in json.loads(shown.stdout)["cells"]])
    whole = json.loads(invoke("grid", experiment, "--dry-run", "--results", tmp_path, "--json").stdout)["cells"]
    assert sorted(map(len, parts)) == [1, 1, 2]
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(cell["run_id"] for cell in whole)
    empty = invoke("grid", experiment, "--shard", "5/5", "--results", tmp_path)
    assert empty.returncode == 0 and "none of the 4 runs is in shard 5/5" in empty.stderr
    assert invoke("status", experiment, "--shard", "5/5", "--results", tmp_path).returncode == 0


def test_a_full_disk_ends_the_grid_and_loses_nothing(experiment, tmp_path, monkeypatch):
    """No process may write a file of more than 200 kB: the weights do not fit, the rest does."""
    load_prepared(load_dataset("synthetic"), 32)
    code = (
        "import resource, sys; from benchmark.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    line = [sys.executable, "-c", code, "grid", experiment, "--slots", "1", "--results", tmp_path, "--json"]
    full = subprocess.run(list(map(str, line)), cwd=ROOT, capture_output=True, text=True)
    assert full.returncode == 1 and "Traceback" not in full.stderr, full.stderr
    assert full.stderr.count("no space left") == 1, "the other runs were not even tried"
    assert json.loads(full.stdout)["states"] == {"missing": 4}
    assert not list(tmp_path.glob("runs/*/lock"))
    ended = invoke("grid", experiment, "--results", tmp_path, "--json")
    assert ended.returncode == 0 and json.loads(ended.stdout)["states"] == {"done": 4}


TALL = [f"  row{n}: {{method: mean_teacher, set: {{optimiser.lr: {n + 1}e-6}}}}" for n in range(834)]
WIDE = [f"  row{n}: {{method: mean_teacher, set: {{method.weight: {n + 1}e-3}}}}" for n in range(417)]


@pytest.mark.parametrize(("rows", "datasets"), [(TALL, "synthetic"), (WIDE, "synthetic, glas")])
def test_ten_thousand_runs_are_planned_in_seconds_whichever_axis_is_long(rows, datasets, tmp_path):
    """Rows with settings of a method's own need not be built, each of them, to be planned."""
    path = tmp_path / "large.yaml"
    head = f"preset: demo\ndatasets: [{datasets}]\nratios: [5, 10, 20, 50]\nrows:\n"
    path.write_text(head + "\n".join(rows))
    invoke("grid", "demo", "--dry-run", "--device", "cpu", "--results", tmp_path)  # imports are not planning
    begun = time.process_time()
    shown = invoke("grid", path, "--dry-run", "--device", "cpu", "--results", tmp_path)
    assert time.process_time() - begun < 8
    assert shown.stdout == "10008 missing\n" and "10008 to run" in shown.stderr


def test_a_grid_warns_where_runs_that_are_compared_come_from_several_processors(experiment, tmp_path):
    line = ("grid", experiment, "--dry-run", "--device", "cpu", "--results", tmp_path)
    for cell in read_experiment(str(experiment)).cells[:2]:  # draws 0 and 1 of one row
        run_or_load(cell.request, RunOptions(tmp_path))
    assert "warning" not in invoke(*line).stderr, "all of this machine"
    path = next((tmp_path / "records").glob("*-f1-*.json"))
    record = json.loads(path.read_text())
    processor = record["environment"]["processor"]
    assert processor["vendor"] and isinstance(processor["vector_flags"], list)
    other = record["environment"] | {"processor": processor | {"family": "25", "model": "1", "stepping": "1"}}
    edit_json(path, environment=other)
    said = invoke(*line).stderr
    assert "would come from several processors (synthetic, official, 20 % draw 1: " in said
    assert " (25/1/1); " in said and "draw 0" not in said
    del other["processor"]  # a record from before processors were told apart
    edit_json(path, environment=other)
    assert "warning" not in invoke(*line).stderr


def test_a_sample_to_verify_was_made_on_this_model_of_device_where_there_are_enough(experiment, tmp_path):
    first, second = (
        run_or_load(cell.request, RunOptions(tmp_path))[0] for cell in read_experiment(str(experiment)).cells[:2]
    )
    here = second["environment"]
    edit_json(tmp_path / "records" / f"{second['run_id']}.json", environment=here | {"device": "another"})

    def taken(number: int, seed: int = 0) -> list[str]:
        return [path.stem for path in sample(str(experiment), number, seed, tmp_path, torch.device("cpu"))]

    assert {name for seed in range(8) for name in taken(1, seed)} == {first["run_id"]}
    assert taken(2) == sorted((first["run_id"], second["run_id"]))
    with pytest.raises(UserError, match="only 2 finished runs"):
        taken(3)


def test_mistakes_are_one_line(experiment, tmp_path):
    assert "Did you mean 'demo'" in one_line_error(invoke("grid", "dmeo"))
    for missing in (tmp_path / "none.yaml", tmp_path / "none.yml"):
        assert f"{missing}: no such file" in one_line_error(invoke("grid", missing))
    (tmp_path / "file").touch()
    for results in (tmp_path / "file", tmp_path / "file" / "deep"):
        complaint = one_line_error(invoke("grid", experiment, "--results", results))
        assert f"{tmp_path}/file: a file stands where a folder is needed" in complaint
    nowhere = invoke("grid", experiment, "--results", "/proc/nothing")
    assert "/proc/nothing" in one_line_error(nowhere, 1) and " left)" not in nowhere.stderr
    assert "--slots" in one_line_error(invoke("grid", "demo", "--slots", 0))
    for shard in ("2", "0/2", "3/2", "a/b"):
        assert "expected I/N" in one_line_error(invoke("grid", "demo", "--shard", shard))
    assert "--launcher slurm" in one_line_error(invoke("grid", "demo", "--print"))
    assert "--launcher slurm" in one_line_error(invoke("grid", "demo", "--sbatch=--time=1"))
    assert "KEY=VALUE" in one_line_error(invoke("grid", "demo", "--only", "method"))
    assert "known are" in one_line_error(invoke("grid", "demo", "--only", "colour=blue"))
    both = invoke("grid", "main", "--only", "method=semimoe", "--only", "ratio=100", "--dry-run")
    assert "no run has all of these" in one_line_error(both)
    second = invoke("grid", "main", "--only", "ratio=10", "--only", "ratio=30")
    assert "ratio=30: there is 10, 100, 20" in one_line_error(second)
    assert "runs on the CPU" in one_line_error(invoke("grid", experiment, "--gpus", "0", "--results", tmp_path))
    one = EXPERIMENT.split("  fragile")[0]
    experiment.write_text(one.replace("evaluate.times: 1", "evaluate.times: 1, method.nothing: 1"))
    assert "line 6" in one_line_error(invoke("grid", experiment, "--dry-run", "--results", tmp_path))
