"""Whole runs through the command line: records, continuation, interruption, and what may go wrong."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from benchmark.errors import Interrupted, UserError
from benchmark.files import sha256
from benchmark.registry import METHODS
from benchmark.runs.request import Request, specify
from benchmark.runs.run import RunOptions, run_or_load
from benchmark.runs.run_files import KEYS, read_counts, read_record
from benchmark.runs.verify import caveats_of
from benchmark.training import device as devices
from benchmark.training import setup
from tests.conftest import ROOT, TINY, one_line_error, tiny_settings
from tests.conftest import demo_run as run

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("SEMIHISTO_KILLS", "2"))  # 10 for the whole of it: every method, ten times
KILLED = METHODS.names() if KILLS > 2 else ["mean_teacher", "semimoe"]
LONG = {"train__steps": 40, "train__batch_labelled": 2, "train__batch_unlabelled": 2}  # the first checkpoint is at 16


def record_of(result):
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def everything(results, record):
    """What must not depend on how a run came about."""
    counts = read_counts(results / "records" / f"{record['run_id']}.json", record)
    log = (results / "runs" / record["run_id"] / "log.jsonl").read_text()
    arrays = {name: array.tolist() for name, array in counts.items()}
    return record["weights_sha256"], record["scores"], record["history"], log, arrays


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Each method's uninterrupted run: results folder and record."""
    results = tmp_path_factory.mktemp("finished")
    return {name: (results, record_of(run(results, name, "--json"))) for name in METHODS.names()}


@pytest.mark.parametrize("method", METHODS.names())
def test_a_run_leaves_a_whole_record(finished, method):
    results, record = finished[method]
    assert set(KEYS) <= set(record) and record["status"] == "done" and record["exact"] is True
    assert record == read_record(results / "records" / f"{record['run_id']}.json")
    for protocol in ("strict", "validation", "paper"):
        assert 0 < record["scores"][protocol]["dice"] <= 1
    assert record["data"]["labelled"] == 12 and record["data"]["test"] == 24
    assert [row["step"] for row in record["history"]] == [6, 12]
    counts = read_counts(results / "records" / f"{record['run_id']}.json", record)
    outputs = len(counts["outputs"])
    assert counts["test_pooled"].shape == (2, outputs, 45, 3)
    assert counts["test_images"].shape == (24, outputs, 45, 3)
    assert counts["test_native"].shape == (24, outputs, 3)
    assert np.array_equal(counts["test_images"].sum(0), counts["test_pooled"][-1])
    folder = results / "runs" / record["run_id"]
    left = {path.name for path in folder.iterdir()}
    assert left == {"log.jsonl", "masks.npz", "model.json", "spec.json", "weights.pt"}


def test_a_finished_run_is_shown_not_made_again(finished):
    results, record = finished["supervised"]
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    result = run(results, "supervised", "--json")
    assert "already done" in result.stderr and record_of(result) == record
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A method's longer run, made when first asked for: results folder and record."""
    made = {}

    def ask(method):
        if method not in made:
            results = tmp_path_factory.mktemp("uninterrupted")
            made[method] = results, record_of(run(results, method, "--json", **LONG))
        return made[method]

    return ask


def start(results, method, *more, **settings):
    """The same command in a process of its own, with a checkpoint as often as the loop allows."""
    line = [
        sys.executable, "-m", "benchmark", "run", "--method", method, "--dataset", "synthetic", "--preset", "demo",
        "--results", str(results), "--checkpoint-seconds", "0.001", *tiny_settings(**settings), *more,
    ]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stamp(path):
    """Tells a file from its replacement; None where there is none."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def wait_for_another(path, old, process):
    """Wait until `path` is no longer what `old` is the stamp of, or the process has ended."""
    while process.poll() is None and stamp(path) in (None, old):
        time.sleep(0.005)


@pytest.mark.parametrize("method", KILLED)
@pytest.mark.kill
def test_killed_at_random_moments_of_training_a_run_ends_where_it_would_have(uninterrupted, method, tmp_path):
    results, record = uninterrupted(method)
    chance, span = random.Random(3), min(0.6, 12 * record["cost"]["seconds_per_step"])  # half of what is left
    folder = tmp_path / "runs" / record["run_id"]
    checkpoint, log = folder / "checkpoint.pt", folder / "log.jsonl"
    finished = tmp_path / "records" / f"{record['run_id']}.json"
    kills = 0
    for number in range(KILLS):
        before = stamp(log)
        process = start(tmp_path, method, **LONG)
        if number == 0:
            wait_for_another(checkpoint, None, process)
        else:  # it has loaded the checkpoint and cut the log back
            wait_for_another(log, before, process)
        time.sleep(chance.uniform(0, span))
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        if finished.exists():
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += checkpoint.exists()
    assert kills
    ended = record_of(run(tmp_path, method, "--json", **LONG))
    assert everything(tmp_path, ended) == everything(results, record)
    assert not checkpoint.exists() and not list(tmp_path.rglob(".*.*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_says_how_to_continue_and_exits_75(uninterrupted, number, tmp_path):
    results, record = uninterrupted("mean_teacher")
    checkpoint = tmp_path / "runs" / record["run_id"] / "checkpoint.pt"
    process = start(tmp_path, "mean_teacher", **LONG)
    wait_for_another(checkpoint, None, process)
    early = stamp(checkpoint)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "the same command continues" in errors and "Traceback" not in errors
    assert stamp(checkpoint) not in (None, early)
    stopped = int(re.search(r"stopped after step (\d+) of 40", errors)[1])
    steps = [json.loads(line)["step"] for line in (checkpoint.parent / "log.jsonl").read_text().splitlines()]
    assert 16 < stopped < 40 and steps == list(range(1, stopped + 1))
    assert not (tmp_path / "records").exists()
    ended = record_of(run(tmp_path, "mean_teacher", "--json", **LONG))
    assert everything(tmp_path, ended) == everything(results, record)


def test_at_100_percent_a_semi_supervised_method_declines(tmp_path):
    result = run(tmp_path, "mean_teacher", "--ratio", "100", "--json")
    record = record_of(result)
    assert record["status"] == "skipped" and "unlabelled" in record["reason"]
    assert record_of(run(tmp_path, "supervised", "--ratio", "100", "--json"))["scores"]["validation"]["reason"]


def test_a_run_that_diverges_says_which_term_and_when(tmp_path):
    result = run(tmp_path, "supervised", optimiser__lr=1e30, optimiser__name="sgd", optimiser__schedule="constant")
    assert result.returncode == 1 and "diverged: 'supervised' was nan at step" in result.stdout
    record = read_record(next((tmp_path / "records").glob("*.json")))
    assert record["status"] == "diverged" and record["scores"] == {} and record["weights_sha256"] is None


DAMAGE = {
    "not JSON": (".json", lambda content: content[: len(content) // 2]),
    "schema 7, this version reads 1; update SemiHisto": (
        ".json", lambda content: content.replace(b'"schema": 1', b'"schema": 7')),
    "'status' is missing": (".json", lambda content: content.replace(b'"done"', b'"dnoe"')),
    "not the counts of": (".npz", lambda content: content[:100]),
}


@pytest.mark.parametrize("words", DAMAGE)
def test_a_damaged_record_is_named_and_left_alone(finished, words, tmp_path):
    results, record = finished["supervised"]
    shutil.copytree(results / "records", tmp_path / "records")
    ending, damage = DAMAGE[words]
    path = tmp_path / "records" / f"{record['run_id']}{ending}"
    path.write_bytes(changed := damage(path.read_bytes()))
    line = one_line_error(run(tmp_path, "supervised"))
    assert path.name in line and words in line and path.read_bytes() == changed


def test_a_damaged_checkpoint_is_named_and_left_alone(finished, tmp_path):
    _, record = finished["supervised"]
    folder = tmp_path / "runs" / record["run_id"]
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    line = one_line_error(run(tmp_path, "supervised"), code=1)
    assert "checkpoint.pt" in line and "remove it" in line
    assert (folder / "checkpoint.pt").exists()


def short(method, **settings):
    return Request(method, "synthetic", preset="demo", overrides=TINY | {"train.steps": 40} | settings)


def stopped(request, results):
    """Stop a run after its first steps; its checkpoint."""
    with pytest.raises(Interrupted):
        run_or_load(request, RunOptions(results), asked_to_stop=lambda: True)
    return next(results.glob("runs/*/checkpoint.pt"))


def test_a_checkpoint_of_other_code_is_set_aside_and_the_run_starts_anew(tmp_path, monkeypatch, caplog):
    checkpoint = stopped(short("supervised"), tmp_path)
    before = checkpoint.read_bytes()
    monkeypatch.setattr(setup, "ENGINE", setup.ENGINE + 1)
    record, _ = run_or_load(short("supervised"), RunOptions(tmp_path))
    assert record["status"] == "done" and record["numerics"]["engine"] == setup.ENGINE
    kept = checkpoint.with_name("checkpoint.pt.old1")
    assert kept.read_bytes() == before
    assert [line for line in caplog.messages if "numerics" in line and str(kept) in line and "starts anew" in line]
    log = checkpoint.with_name("log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == list(range(1, 41))


def test_a_run_that_is_continued_on_another_machine_says_so(tmp_path, monkeypatch):
    stopped(short("supervised"), tmp_path)
    here = devices.environment(torch.device("cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(devices, "environment", lambda device: here | {"instructions": "OTHER"})
        record, _ = run_or_load(short("supervised"), RunOptions(tmp_path))
    assert record["environment"]["earlier"] == [here] and not record["exact"]
    assert [told for told in caveats_of(record, "cpu") if "the run was begun elsewhere" in told]
    whole, _ = run_or_load(short("supervised"), RunOptions(tmp_path / "whole"))
    assert whole["exact"] and "earlier" not in whole["environment"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    checkpoint, other = stopped(short("supervised"), tmp_path), short("supervised", **{"train.steps": 39})
    place = tmp_path / "runs" / specify(other, "cpu").spec.run_id / "checkpoint.pt"
    place.parent.mkdir()
    checkpoint.rename(place)
    with pytest.raises(UserError, match="another run_id; remove it"):
        run_or_load(other, RunOptions(tmp_path))


def test_a_record_names_the_code_that_ran_whatever_becomes_of_its_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from methods.supervised import Supervised\n\nclass Mine(Supervised):\n    pass\n")
    before = sha256(file)[:16]

    def edit(*told):
        file.write_text(file.read_text() + "# edited\n")

    record, _ = run_or_load(short(f"{file}:Mine"), RunOptions(tmp_path), on_progress=edit)
    assert sha256(file)[:16] != before and record["numerics"]["source"] == before


@pytest.mark.parametrize("ours", ["done", "failed"])
def test_a_record_that_comes_while_its_run_trains_is_kept(finished, tmp_path, ours):
    """As `records merge` or a pull brings it."""
    file = tmp_path / "mine.py"
    file.write_text("from methods.supervised import Supervised\n\nclass Mine(Supervised):\n    pass\n")
    request, came = short(f"{file}:Mine"), []
    path = tmp_path / "records" / f"{specify(request, 'cpu').spec.run_id}.json"
    run_or_load(request, RunOptions(tmp_path / "elsewhere"))

    def bring(*told):
        if not came:
            came.append(True)
            for suffix in (".npz", ".json"):
                theirs = tmp_path / "elsewhere" / "records" / path.name
                shutil.copy(theirs.with_suffix(suffix), path.with_suffix(suffix))
            if ours == "failed":
                raise ValueError("broken")

    before = (tmp_path / "elsewhere" / "records" / path.name).read_bytes()
    (tmp_path / "records").mkdir()
    record, was_there = run_or_load(request, RunOptions(tmp_path), on_progress=bring)
    assert record["status"] == "done" and was_there == (ours == "failed")
    kept = path if ours == "failed" else path.with_name(f"{path.name}.old1")
    assert kept.read_bytes() == before and kept.with_name(kept.name.replace(".json", ".npz")).is_file()


def test_a_failure_is_explained_by_torch_s_own_errors_alone_and_its_traceback_is_the_last_one(tmp_path):
    file, words = tmp_path / "mine.py", "no features were captured"
    for error in ("ValueError", "RuntimeError"):
        file.write_text(f"""from methods.supervised import Supervised

class Mine(Supervised):
    def losses(self, labelled, unlabelled, clock):
        raise {error}({words!r})
""")
        record, _ = run_or_load(short(f"{file}:Mine"), RunOptions(tmp_path))
        assert record["status"] == "failed" and "CUDA" not in record["reason"]
        trace = tmp_path / re.search(r"traceback in (.+)\)$", record["reason"])[1]
        assert f"{error}: {words}" in trace.read_text()


def test_a_full_disk_loses_nothing(finished, tmp_path):
    """A limit on the size of files stands in for a full disk: checkpoint and weights do not fit, the log does."""
    results, record = finished["supervised"]
    limited = f"ulimit -f 300; exec {sys.executable} -m benchmark run --method supervised --dataset synthetic"
    line = " ".join([limited, "--preset demo --results", str(tmp_path), "--checkpoint-seconds 0.001", *tiny_settings()])
    result = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert "no space left" in one_line_error(result, code=1)
    assert not list(tmp_path.rglob(".*.*"))
    assert everything(tmp_path, record_of(run(tmp_path, "supervised", "--json"))) == everything(results, record)


def test_where_nothing_can_be_written_one_line_says_so(finished, tmp_path):
    """No file may have a byte: not the lock, and nothing that Python or torch would leave on its own account."""
    assert finished["supervised"]  # data lie prepared
    line = f"ulimit -f 0; exec {sys.executable} -m benchmark run --method supervised --dataset synthetic"
    line = " ".join([line, "--preset demo --results", str(tmp_path), *tiny_settings()])
    result = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    said = one_line_error(result, code=1)
    assert str(tmp_path) in said and "no space left" in said
    split, *rest = result.stderr.splitlines()
    assert split.startswith("split official, fold 0: 12 labelled") and rest == [said] and not result.stdout
    assert all(path.stat().st_size == 0 for path in tmp_path.rglob("*") if path.is_file())
