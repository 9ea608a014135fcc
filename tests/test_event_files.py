"""`run --tensorboard`: what is written, what a resumed run appends, and that nothing else changes."""

from __future__ import annotations

import errno
import sys
import types

import pytest

from benchmark.config.compose import parse_overrides
from benchmark.errors import Interrupted
from benchmark.runs.request import Request
from benchmark.runs.run import RunOptions, run_or_load
from tests.conftest import TINY, invoke, one_line_error, tiny_settings

MODULE = "torch.utils.tensorboard"


class Writer:
    """In place of TensorBoard's; `made` holds all of them."""

    made = []
    full = False  # the disk

    def __init__(self, folder, purge_step, flush_secs):
        self.folder, self.purge_step, self.points, self.closed = folder, purge_step, [], False
        self.made.append(self)

    def add_scalar(self, name, value, step):
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.points.append((name, step, value))

    def close(self):
        self.closed = True


@pytest.fixture
def writers(monkeypatch):
    monkeypatch.setattr(Writer, "made", [])
    monkeypatch.setitem(sys.modules, MODULE, types.SimpleNamespace(SummaryWriter=Writer))
    return Writer.made


def run(results, events=True, stop=lambda: False):
    values = parse_overrides([f"{key}={value}" for key, value in (TINY | {"train.steps": 24}).items()])
    request = Request("mean_teacher", "synthetic", None, 20, 0, 0, "demo", values, None)
    return run_or_load(request, RunOptions(results, events=events, checkpoint_seconds=0.001), asked_to_stop=stop)[0]


def test_losses_and_scores_are_written_and_the_run_stays_the_same(tmp_path, writers):
    plain, watched = run(tmp_path / "plain", events=False), run(tmp_path / "watched")
    assert len(writers) == 1 and writers[0].closed and writers[0].purge_step == 1
    assert writers[0].folder == str(tmp_path / "watched" / "runs" / watched["run_id"] / "tensorboard")
    for key in ("run_id", "weights_sha256", "counts_sha256", "history", "command"):
        assert plain[key] == watched[key]
    points = {(name, step): value for name, step, value in writers[0].points}
    assert {step for name, step in points if name == "training/consistency"} == {12, 24}
    for entry in watched["history"]:  # twelve steps are one block here, so its means are the record's
        assert points["training/supervised", entry["step"]] == pytest.approx(entry["supervised"])
    teacher = [step for name, step in points if name == "validation/Dice/teacher"]
    assert teacher == [12, 24] and all(0 <= v <= 1 for (name, _), v in points.items() if "Dice" in name)


def test_a_resumed_run_appends_and_hides_what_lay_beyond_its_checkpoint(tmp_path, writers):
    asked = iter([False] * 3 + [True] * 99)
    with pytest.raises(Interrupted):
        run(tmp_path, stop=lambda: next(asked))
    stopped = max(step for _, step, _ in writers[0].points)
    assert writers[0].closed and stopped < 12
    run(tmp_path)
    assert writers[1].purge_step == stopped + 1 and writers[1].closed
    assert min(step for _, step, _ in writers[1].points) > stopped


def test_a_full_disk_ends_the_events_and_not_the_run(tmp_path, writers, monkeypatch, caplog):
    monkeypatch.setattr(Writer, "full", True)
    assert run(tmp_path)["status"] == "done"
    assert caplog.text.count("No space left on device; no more events are written") == 1


def test_without_the_package_it_costs_one_line_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    result = invoke("run", "--method", "fixmatch", "--dataset", "synthetic", "--preset", "demo", "--tensorboard",
                    "--results", tmp_path, *tiny_settings())
    assert "pip install tensorboard" in one_line_error(result)
    assert not list(tmp_path.rglob("*"))
