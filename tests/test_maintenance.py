"""`clean` and `records merge`: what goes, what is copied, what stops it."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.files import set_aside
from benchmark.runs.lock import RunLock
from benchmark.runs.run_files import read_record, write_record
from tests.conftest import invoke, one_line_error, read_records


def put(results: Path, run_id: str = "a", status: str = "done", counts: int = 0, **other: Any) -> Path:
    """A minimal record in a results folder; `counts` makes different ones."""
    record = {
        "schema": 1, "run_id": run_id, "status": status, "reason": None, "exact": True, "scores": {}, "cost": {},
        "spec": {"method": "made", "values": {}}, "weights_sha256": "w" * 64, "environment": {}, "history": [],
        "data": {"fingerprint": "f", "arrays_fingerprint": "a", "split_fingerprint": "s"},
        "numerics": {"engine": 1, "method": 1, "dataset": 1},
    }  # fmt: skip
    arrays = {"test_pooled": np.full((2, 3), counts)} if status == "done" else None
    write_record(results / "records", record | other, arrays)
    return results / "records" / f"{run_id}.json"


def content(results: Path) -> dict[str, bytes]:
    return {str(path.relative_to(results)): path.read_bytes() for path in results.rglob("*") if path.is_file()}


def merge(target: Path, *folders: Path) -> list[dict[str, Any]]:
    merged = invoke("records", "merge", *folders, "--results", target, "--json")
    assert merged.returncode == 0, merged.stderr
    return json.loads(merged.stdout)["sources"]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A target and two contributors' folders; spaces and brackets are names like any other."""
    return tmp_path / "the results", tmp_path / "Ann's [runs] of May", tmp_path / "bob"


def test_records_of_several_people_come_together_byte_for_byte_and_a_second_merge_writes_nothing(places):
    target, ann, bob = places
    put(ann, "a"), put(ann, "b", "skipped"), put(bob, "c", counts=1), put(bob, "d", "failed"), put(bob, "a")
    old = put(ann, "old")
    set_aside(old.with_suffix(".npz"), old)
    (ann / "records" / "._a.json").write_text("a Mac's")
    shown = invoke("records", "merge", ann, bob / "records", "--results", target, "--dry-run")
    assert "2 copied, 0 skipped, 0 replaced (dry run)" in shown.stdout and not target.exists()
    sources = merge(target, ann, bob / "records")
    assert [source["copied"] for source in sources] == [["a", "b"], ["c", "d"]] and sources[1]["skipped"] == ["a"]
    assert content(target).items() <= (content(ann) | content(bob)).items()
    assert len(read_records(target / "records")) == 4
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert [source["skipped"] for source in merge(target, ann, bob)] == [["a", "b"], ["a", "c", "d"]]
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_a_failed_run_is_replaced_and_replaces_nothing(places):
    target, ann, bob = places
    put(target, "a", "failed"), put(target, "b"), put(ann, "a"), put(ann, "b", "failed"), put(bob, "a")
    (first, second) = merge(target, ann, bob)
    assert (first["replaced"], first["skipped"], second["skipped"]) == (["a"], ["b"], ["a"])
    assert {read_record(path)["status"] for path in (target / "records").glob("*.json")} == {"done"}
    assert read_record(target / "records" / "a.json.old1")["status"] == "failed"


@pytest.mark.parametrize("other", [
    {"counts": 1}, {"status": "diverged"}, {"numerics": {"engine": 2}}, {"data": {"fingerprint": "of other images"}},
])  # fmt: skip
def test_where_records_differ_nothing_is_copied(places, other):
    target, ann, bob = places
    put(ann, "a"), put(ann, "new"), put(bob, "a", **other)
    refused = invoke("records", "merge", ann, bob, "--results", target)
    both = f"{bob}/records/a.json and {ann}/records/a.json"
    assert f"1 records differ, and nothing was copied: {both}. Remove" in one_line_error(refused, 4)
    assert not target.exists()


def test_what_cannot_be_merged_is_one_line(places):
    target, ann, bob = places
    put(target, "a"), put(bob, "b")
    assert "no records in it" in one_line_error(invoke("records", "merge", ann, "--results", target))
    assert "copied to" in one_line_error(invoke("records", "merge", target, "--results", target))
    os.rename(bob / "records" / "b.json", bob / "records" / "c.json")
    assert "the record of another run, 'b'" in one_line_error(invoke("records", "merge", bob, "--results", target))
    (bob / "records" / "c.json").write_text("{")
    assert "c.json: damaged record" in one_line_error(invoke("records", "merge", bob, "--results", target))


def test_clean_lists_and_then_removes_what_is_not_needed_and_nothing_else(tmp_path):
    done = put(tmp_path, "done")
    set_aside(done.with_suffix(".npz"), done)
    for name in ("done", "locked"):
        put(tmp_path, name)
    runs = {name: tmp_path / "runs" / name for name in ("done", "locked", "begun")}
    for folder in runs.values():
        folder.mkdir(parents=True)
        (folder / "checkpoint.pt").touch(), (folder / "weights.pt").touch()
    (runs["begun"] / "checkpoint.pt.old1").touch()
    day_ago = time.time() - 90000
    for name, when in (("weights.pt.abcdefgh", day_ago), ("masks.npz.abcdefgh", time.time())):
        (runs["begun"] / f".{name}").touch()
        os.utime(runs["begun"] / f".{name}", (when, when))
    (tmp_path / "runs" / "elsewhere").symlink_to(runs["begun"])
    gone = {
        "records/done.json.old1", "records/done.npz.old1", "runs/done/checkpoint.pt", "runs/begun/checkpoint.pt.old1",
        "runs/begun/.weights.pt.abcdefgh",
    }
    before = set(content(tmp_path))
    with RunLock(runs["locked"] / "lock").acquire():
        listed = json.loads(invoke("clean", "--results", tmp_path, "--json").stdout)
        assert {str(Path(path).relative_to(tmp_path)) for path in listed["files"]} == gone
        assert set(content(tmp_path)) > before, "nothing is removed without --yes"
        shown = invoke("clean", "--results", tmp_path, "--yes")
    assert "5 files" in shown.stdout and shown.stdout.rstrip().endswith("removed")
    assert set(content(tmp_path)) == before - gone
    assert "1 files" in invoke("clean", "--results", tmp_path, "--yes").stdout, "no process works on it any more"
