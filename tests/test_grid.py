"""Grids: several workers, a crash that costs one run, and nothing done twice."""

from __future__ import annotations

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
from benchmark.runs.execute import execute
from benchmark.runs.grid import plan, planned_digest
from benchmark.runs.slots import environments, places
from benchmark.runs.workers import TROUBLE, Job, Orders, perform

from benchmark.errors import UserError
from benchmark.lock_holder import Holder
from benchmark.runs import dispatch
from benchmark.runs.experiment import read_experiment
from benchmark.runs.folder import RunFolder
from benchmark.runs.records import digest
from benchmark.runs.request import specify
from benchmark.runs.signals import StopSignals
from tests.conftest import ROOT, command, invoke, one_line_error

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
from pathlib import Path
from methods.supervised import Supervised

class Fragile(Supervised):
    '''Nobody 2026: dies, or raises, as often as the file $FALL has lines left.'''

    def losses(self, labelled, unlabelled, clock):
        print("a method that talks")
        file = Path(os.environ.get("FALL", os.devnull))
        first, _, rest = file.read_text().partition("\\n")
        if first:
            file.write_text(rest)
            if first == "raise":
                raise KeyError("a bug")
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
    assert "failed: KeyError: 'a bug' (traceback in fragile-" in second.stderr
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
    spec, *_ = specify(cell.request, "cpu")
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


def test_a_run_of_another_machine_is_left_to_it_while_it_lives(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIHISTO_BEAT", "0.1")
    spec, *_ = specify(read_experiment(str(experiment)).cells[0].request, "cpu")
    folder = RunFolder(tmp_path, spec)
    stranger = replace(Holder.me(), host="node07", machine="another boot")
    with folder.claimed():
        pass
    os.rename(folder.path / "claim" / "free", file := folder.path / "claim" / stranger.name)
    stop = threading.Event()

    def beat():
        while not stop.wait(0.05):
            os.utime(file)

    beating = threading.Thread(target=beat)
    beating.start()
    only = ("--only", "row=plain", "--slots", 1, "--results", tmp_path, "--json")
    try:
        left = invoke("grid", experiment, *only, "--no-wait")
        assert left.returncode == 3 and "1 left to others" in left.stderr, left.stderr
        assert json.loads(left.stdout)["states"] == {"done": 1, "running": 1}
        threading.Timer(3, stop.set).start()  # the other machine dies while this grid waits for it
        waited = invoke("grid", experiment, *only)
    finally:
        stop.set()
        beating.join()
    assert waited.returncode == 0 and json.loads(waited.stdout)["states"] == {"done": 2}, waited.stderr
    assert f"waiting for 1 run of others: process {os.getpid()} on node07 at {spec.run_id}; Ctrl-C" in waited.stderr


def test_what_another_grid_has_tried_again_is_not_tried_a_third_time(experiment, tmp_path):
    request = read_experiment(str(experiment)).cells[0].request
    record, was_there = execute(request, results=tmp_path, again="")
    path = tmp_path / "records" / f"{record['run_id']}.json"
    assert not was_there
    failed = json.dumps({key: value for key, value in record.items() if key != "counts_sha256"} | {"status": "failed"})
    path.write_text(failed)
    seen = digest(path)
    assert execute(request, results=tmp_path, again="") == (json.loads(failed), True)
    path.write_text(failed.replace('"failed"', '"failed" '))  # the other grid's: failed, too
    assert execute(request, results=tmp_path, again=seen) == (json.loads(failed), True)
    again, was_there = execute(request, results=tmp_path, again=digest(path))
    assert again["status"] == "done" and not was_there and path.with_name(f"{path.name}.old1").exists()


def test_a_record_that_came_after_the_plan_is_not_made_again(experiment, tmp_path):
    one = {"row": "plain", "draw": "0"}
    (before,) = plan(read_experiment(str(experiment)), tmp_path, "cpu", one)
    record, _ = execute(before.cell.request, results=tmp_path)
    assert planned_digest(tmp_path, before) == "", "an orphan of a killed grid has finished it in the meantime"
    assert execute(before.cell.request, results=tmp_path, again="") == (record, True)
    (after,) = plan(read_experiment(str(experiment)), tmp_path, "cpu", one)
    path = tmp_path / "records" / f"{record['run_id']}.json"
    assert planned_digest(tmp_path, after) == digest(path)
    path.write_text(json.dumps(record | {"reason": "another's"}))
    assert planned_digest(tmp_path, after) not in ("", digest(path))


def test_after_a_failed_run_the_next_gets_a_new_worker_and_no_process_died(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("FALL", str(tmp_path / "fall"))
    (tmp_path / "fall").write_text("raise\nraise\n")
    ended = invoke("grid", experiment, "--slots", 1, "--only", "row=fragile", "--results", tmp_path, "--json")
    assert ended.returncode == 1 and json.loads(ended.stdout)["states"] == {"failed": 2}
    assert "died" not in ended.stderr and ended.stderr.count("failed: KeyError") == 2, ended.stderr


def test_what_failed_at_another_grid_is_not_this_ones_trouble(experiment, tmp_path):
    request = read_experiment(str(experiment)).cells[0].request
    record, _ = execute(request, results=tmp_path)
    path = tmp_path / "records" / f"{record['run_id']}.json"
    failed = {key: value for key, value in record.items() if key != "counts_sha256"}
    path.write_text(json.dumps(failed | {"status": "failed", "reason": "a bug"}))
    answer = perform(Job(request, record["run_id"]), Orders(tmp_path, None, "cpu", "weights"), lambda: False)
    assert answer == ("by another grid", "failed: a bug") and answer[0] not in TROUBLE


def test_a_claim_that_cannot_be_read_costs_its_own_run(experiment, tmp_path, monkeypatch):
    cells = [cell for cell in read_experiment(str(experiment)).cells if cell.row == "plain"]
    spec, *_ = specify(cells[0].request, "cpu")
    claim = tmp_path / "runs" / spec.run_id / "claim"
    claim.mkdir(parents=True)
    (claim / "notes.txt").touch()
    line = ("grid", experiment, "--only", "row=plain", "--slots", 1, "--results", tmp_path, "--json")
    ended = invoke(*line)
    assert ended.returncode == 1 and json.loads(ended.stdout)["states"] == {"done": 1, "missing": 1}, ended.stderr
    assert "refused: " in ended.stderr and "notes.txt: not a claim's file; remove it" in ended.stderr

    looks = iter([OSError(116, "Stale file handle"), None])

    def away(folder):
        if isinstance(error := next(looks), OSError):
            raise error

    monkeypatch.setattr(dispatch, "look", away)
    queue = dispatch.Queue([Job(cells[0].request, spec.run_id)], tmp_path)
    assert queue.next() is None and len(queue) == 1 and not queue.living
    queue._looked = 0.0
    assert queue.next() is not None


def test_stale_records_are_made_anew_on_demand(experiment, tmp_path):
    line = ("grid", experiment, "--only", "row=plain", "--slots", 1, "--results", tmp_path, "--json")
    assert invoke(*line).returncode == 0
    old, current = sorted((tmp_path / "records").glob("*.json"))
    before = {path: path.read_bytes() for path in (tmp_path / "records").iterdir()}
    record = json.loads(old.read_text())
    old.write_text(json.dumps(record | {"numerics": record["numerics"] | {"engine": 0}}))
    left = invoke(*line)
    assert left.returncode == 3 and json.loads(left.stdout)["states"] == {"done": 1, "stale": 1}
    again = invoke(*line, "--retry", "stale")
    assert again.returncode == 0 and json.loads(again.stdout)["states"] == {"done": 2}, again.stderr
    assert json.loads(old.read_text())["weights_sha256"] == record["weights_sha256"]
    assert json.loads(old.with_name(f"{old.name}.old1").read_text())["numerics"]["engine"] == 0
    assert current.read_bytes() == before[current] and len(list((tmp_path / "records").iterdir())) == 6


def test_a_grid_that_was_killed_with_all_its_workers_finishes_the_rest_and_nothing_else(experiment, tmp_path):
    experiment.write_text(experiment.read_text().replace("train.steps: 4", "train.steps: 40"))
    line = [sys.executable, "-m", "benchmark", "grid", experiment, "--slots", "1", "--results", tmp_path, "--json"]
    with subprocess.Popen(list(map(str, line)), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        begun = time.monotonic()
        while not list(tmp_path.glob("records/*.json")):
            assert process.poll() is None and time.monotonic() - begun < 200
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    before = {path: path.read_bytes() for path in (tmp_path / "records").glob("*.json")}
    assert len(before) < 4
    ended = command(*line[3:])
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["states"] == {"done": 4}, "what workers print does not get into the answer"
    assert f"{4 - len(before)} to run" in ended.stderr and ended.stderr.count(" left)") == 4 - len(before)
    assert all(path.read_bytes() == content for path, content in before.items())
    names = [path.name for path in (tmp_path / "records").iterdir()]
    assert len(names) == 8 and not [name for name in names if name.startswith(".") or ".old" in name]


def test_a_closed_terminal_is_a_wish_to_stop_unless_it_is_to_be_ignored():
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in names}
    try:
        for ours, asked in ((signal.SIG_IGN, False), (signal.SIG_DFL, True)):
            signal.signal(signal.SIGHUP, ours)
            stop = StopSignals()
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.asked is asked
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_places_for_workers(monkeypatch):
    assert places("cpu", "cpu", None, None) >= 1 and places("cpu", "cpu", 7, None) == 7
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert [places("cuda", "cuda", None, gpus) for gpus in (None, "0", "0,1")] == [8, 1, 2]
    assert places("cuda:1", "cuda", None, None) == 1 and places("cuda:1", "cuda", 4, None) == 4
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert environments("cuda:5", "cuda", 2, None) == [{"CUDA_VISIBLE_DEVICES": "5"}] * 2
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UserError, match="no CUDA device"):
        environments("cuda", "cuda", None, None)


def test_shards_are_disjoint_and_together_the_whole(experiment, tmp_path):
    parts = []
    for part in (1, 2, 3):
        shown = invoke("grid", experiment, "--dry-run", "--shard", f"{part}/3", "--results", tmp_path, "--json")
        parts.append([cell["run_id"] for cell in json.loads(shown.stdout)["cells"]])
    whole = json.loads(invoke("grid", experiment, "--dry-run", "--results", tmp_path, "--json").stdout)["cells"]
    assert sorted(map(len, parts)) == [1, 1, 2]
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(cell["run_id"] for cell in whole)
    empty = invoke("grid", experiment, "--shard", "5/5", "--results", tmp_path)
    assert empty.returncode == 0 and "no cell is in this part of 4" in empty.stderr
    assert invoke("status", experiment, "--shard", "5/5", "--results", tmp_path).returncode == 0


def test_a_full_disk_ends_the_grid_and_loses_nothing(experiment, tmp_path, monkeypatch):
    """No worker may write a file of more than 200 kB: the weights do not fit, the rest does."""
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
    assert [path.name for path in tmp_path.glob("runs/*/claim/*")] == ["free"]
    ended = invoke("grid", experiment, "--results", tmp_path, "--json")
    assert ended.returncode == 0 and json.loads(ended.stdout)["states"] == {"done": 4}


def test_results_of_a_newer_version_are_not_touched(experiment, tmp_path):
    spec, *_ = specify(read_experiment(str(experiment)).cells[0].request, "cpu")
    path = tmp_path / "records" / f"{spec.run_id}.json"
    path.parent.mkdir()
    path.write_text('{"schema": 99}')
    complaint = one_line_error(invoke("grid", experiment, "--results", tmp_path))
    assert str(path) in complaint and "schema 99, this version reads 1; update SemiHisto" in complaint
    assert path.read_text() == '{"schema": 99}' and not (tmp_path / "runs").exists()


def test_ten_thousand_runs_are_planned_in_seconds(tmp_path):
    rows = [f"  row{n}: {{method: mean_teacher, set: {{optimiser.lr: {n + 1}e-6}}}}" for n in range(834)]
    path = tmp_path / "large.yaml"
    head = "preset: demo\ndatasets: [synthetic]\nratios: [5, 10, 20, 50]\nrows:\n"
    path.write_text(head + "\n".join(rows))
    invoke("grid", "demo", "--dry-run", "--device", "cpu", "--results", tmp_path)  # imports are not planning
    begun = time.process_time()
    shown = invoke("grid", path, "--dry-run", "--device", "cpu", "--results", tmp_path)
    assert time.process_time() - begun < 5
    assert shown.stdout == "10008 missing\n" and "10008 to run" in shown.stderr


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
