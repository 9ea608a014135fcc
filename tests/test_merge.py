"""Records of several contributors in one folder: what is copied, what stands, and what stops it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.run_lock import Claim
from benchmark.runs.records import read_counts, read_record, read_records, set_aside, write_record
from tests.conftest import ROOT, invoke, one_line_error


def put(results: Path, run_id: str = "a", status: str = "done", counts: int = 0, **other: Any) -> Path:
    """A minimal record in a results folder; `counts` makes different ones."""
    record = {
        "schema": 1, "run_id": run_id, "status": status, "reason": None, "exact": True, "scores": {}, "cost": {},
        "spec": {"method": "made", "values": {}}, "weights_sha256": "w" * 64, "environment": {}, "history": [],
        "data": {"fingerprint": "f", "arrays_fingerprint": "a", "split_fingerprint": "s"},
        "numerics": {"engine": 1, "method": 1, "dataset": 1},
    }  # fmt: skip
    evidence = {"test_pooled": np.full((2, 3), counts)} if status == "done" else None
    return write_record(results / "records", record | other, evidence)


def content(results: Path) -> dict[str, bytes]:
    """Every file of a results folder."""
    return {str(path.relative_to(results)): path.read_bytes() for path in results.rglob("*") if path.is_file()}


def merge(target: Path, *folders: Path, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return invoke("records", "merge", *folders, "--results", target, *more)


def merged(target: Path, *folders: Path, more: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """What each folder brought, of a merge that went well."""
    result = merge(target, *folders, more=("--json", *more))
    assert result.returncode == 0, result.stderr
    sources = json.loads(result.stdout)["sources"]
    assert [source.pop("folder") for source in sources] == [str(folder) for folder in folders]
    return sources


def conflicts(target: Path, *folders: Path) -> list[str]:
    """The lines of a merge that is refused; nothing may have changed."""
    before = {folder: content(folder) for folder in (target, *folders)}
    for more in ((), ("--dry-run",)):
        result = merge(target, *folders, more=more)
        error = one_line_error(result, 4)
        lines = [line for line in result.stderr.splitlines() if not line.startswith("error: ")]
        assert error.startswith(f"error: {len(lines)} conflict") and "nothing was merged" in error
        assert not result.stdout
        assert {folder: content(folder) for folder in (target, *folders)} == before
    return lines


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A target and two contributors' folders; spaces and brackets are names like any other."""
    return tmp_path / "the results", tmp_path / "Ann's [runs] of May", tmp_path / "bob"


def test_two_contributors_records_come_together_byte_for_byte(places):
    target, ann, bob = places
    put(ann, "a"), put(ann, "b", "skipped"), put(bob, "c", counts=1), put(bob, "d", "failed")
    result = merge(target, ann, bob)
    assert result.returncode == 0 and not result.stderr
    assert result.stdout.splitlines() == [
        f"{ann}: brought 2, already there 0, replaced a failed one 0",
        f"{bob}: brought 2, already there 0, replaced a failed one 0",
    ]
    assert content(target) == content(ann) | content(bob)
    assert len(read_records(target / "records")) == 4


def test_a_records_folder_does_as_well_as_the_results_folder_around_it(places):
    target, ann, bob = places
    put(ann, "a"), put(bob, "b")
    assert [source["brought"] for source in merged(target, ann / "records", bob)] == [["a"], ["b"]]


def test_the_results_folder_may_come_from_the_environment(places, monkeypatch):
    target, ann, _ = places
    put(ann)
    monkeypatch.setenv("SEMIHISTO_RESULTS", str(target))
    assert invoke("records", "merge", ann).returncode == 0
    assert content(target) == content(ann)


def test_a_second_merge_finds_everything_there_and_writes_nothing(places):
    target, ann, _ = places
    put(ann, "a"), put(ann, "b", "diverged")
    merged(target, ann)
    times = {path: path.stat().st_mtime_ns for path in (target / "records").iterdir()}
    assert merged(target, ann) == [{"brought": [], "already_there": ["a", "b"], "replaced": []}]
    assert {path: path.stat().st_mtime_ns for path in (target / "records").iterdir()} == times


def test_a_dry_run_says_the_same_and_writes_nothing(places):
    target, ann, bob = places
    put(target, "a", "failed"), put(ann, "a"), put(ann, "b"), put(bob, "b")
    before = content(target)
    planned = merged(target, ann, bob, more=("--dry-run",))
    assert "would bring 1, already there 0, would replace a failed one 1" in merge(
        target, ann, bob, more=("--dry-run",)).stdout
    assert content(target) == before
    assert merged(target, ann, bob) == planned


def test_of_one_result_in_several_places_the_first_stays(places):
    target, ann, bob = places
    put(target, "a", command="target's"), put(ann, "a", command="Ann's")
    put(ann, "b", command="Ann's"), put(bob, "b", command="Bob's")
    assert merged(target, ann, bob) == [
        {"brought": ["b"], "already_there": ["a"], "replaced": []},
        {"brought": [], "already_there": ["b"], "replaced": []},
    ]
    commands = {record["run_id"]: record["command"] for record, _ in read_records(target / "records")}
    assert commands == {"a": "target's", "b": "Ann's"}


def test_a_folder_given_twice_brings_its_records_once(places):
    target, ann, _ = places
    put(ann)
    first, second = merged(target, ann, ann)
    assert (first["brought"], second["already_there"]) == (["a"], ["a"])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"counts": 1}, ["counts_sha256"]),
        ({"numerics": {"engine": 2, "method": 1, "dataset": 1}}, ["numerics.engine is 1 and 2"]),
        ({"numerics": {"engine": 1, "method": 1, "dataset": 1, "source": "d1"}}, ["numerics.source is None and d1"]),
        ({"data": {"fingerprint": "f", "arrays_fingerprint": "a", "split_fingerprint": "t"}},
         ["data.split_fingerprint is s and t"]),
        ({"data": {"fingerprint": "g", "arrays_fingerprint": "b", "split_fingerprint": "s"}},
         ["data.fingerprint is f and g", "data.arrays_fingerprint is a and b"]),
        ({"weights_sha256": "v" * 64}, ["weights_sha256 is wwwwwwwwwwww and vvvvvvvvvvvv"]),
    ],
)
def test_two_different_results_of_one_run_are_a_conflict_that_names_files_difference_and_advice(places, other, words):
    target, ann, bob = places
    first, second = put(ann, "a"), put(bob, "a", **other)
    put(bob, "b")
    for folders in ((target, ann, bob), (ann, bob)):  # between two sources, and between target and source
        (line,) = conflicts(*folders)
        assert line.startswith(f"{first} and {second}: both are done, but ")
        assert all(word in line for word in words)
        assert line.endswith("; remove one (.json and .npz), or run the cell again with --overwrite")


@pytest.mark.parametrize("exact", [(False, True), (True, False), (False, False)])
def test_other_weights_with_the_same_counts_are_no_conflict_where_a_run_is_not_exact(places, exact):
    target, ann, _ = places
    put(target, exact=exact[0]), put(ann, exact=exact[1], weights_sha256="v" * 64)
    assert merged(target, ann)[0]["already_there"] == ["a"]


def test_every_conflict_is_listed_before_anything_is_written(places):
    target, ann, bob = places
    put(target, "a"), put(ann, "a", counts=1), put(bob, "a", counts=2)  # three different results: three pairs
    put(ann, "b"), put(bob, "b", "diverged")
    put(ann, "c"), put(bob, "d")
    lines = conflicts(target, ann, bob)
    assert len(lines) == 4
    assert "one is done, the other diverged" in lines[-1]


def test_a_done_run_takes_the_place_of_a_failed_one_which_is_set_aside(places):
    target, ann, _ = places
    failed = put(target, "a", "failed").read_bytes()
    put(ann, "a")
    assert merged(target, ann) == [{"brought": [], "already_there": [], "replaced": ["a"]}]
    assert content(target) == content(ann) | {"records/a.json.old1": failed}
    assert merged(target, ann)[0]["already_there"] == ["a"]


def test_a_failed_run_does_not_take_the_place_of_a_done_one(places):
    target, ann, bob = places
    put(target, "a"), put(ann, "a", "failed"), put(ann, "b", "failed"), put(bob, "b")
    before = content(target)
    assert merged(target, ann, bob) == [
        {"brought": [], "already_there": ["a", "b"], "replaced": []},
        {"brought": ["b"], "already_there": [], "replaced": []},
    ]
    assert content(target) == before | content(bob)


@pytest.mark.parametrize("status", ["diverged", "skipped"])
def test_a_diverged_or_skipped_run_takes_the_place_of_a_failed_one_too(places, status):
    target, ann, _ = places
    put(target, "a", "failed"), put(ann, "a", status)
    assert merged(target, ann)[0]["replaced"] == ["a"]
    assert read_record(target / "records" / "a.json")["status"] == status


@pytest.mark.parametrize("statuses", [("done", "diverged"), ("skipped", "done"), ("diverged", "skipped")])
def test_done_diverged_and_skipped_contradict_each_other(places, statuses):
    target, ann, _ = places
    put(target, "a", statuses[0]), put(ann, "a", statuses[1])
    (line,) = conflicts(target, ann)
    assert f"one is {statuses[0]}, the other {statuses[1]}" in line


@pytest.mark.parametrize("status", ["failed", "diverged", "skipped"])
def test_of_equal_statuses_other_than_done_the_one_there_stays(places, status):
    target, ann, _ = places
    put(target, "a", status, reason="target's"), put(ann, "a", status, reason="Ann's", numerics={"engine": 9})
    assert merged(target, ann)[0]["already_there"] == ["a"]
    assert read_record(target / "records" / "a.json")["reason"] == "target's"


def test_a_run_that_somebody_is_at_in_the_target_is_a_conflict(places):
    target, ann, _ = places
    put(ann, "a"), put(ann, "b")
    with Claim(target / "runs" / "a" / "claim").held():
        result = merge(target, ann)
    assert "1 conflict," in one_line_error(result, 4)
    assert f"process {os.getpid()} on" in result.stderr and "wait for it, or stop it" in result.stderr
    assert not (target / "records").exists()
    claim = target / "runs" / "a" / "claim"
    os.rename(claim / "free", claim / "elsewhere,another,1,2,0.05,token")  # of a machine that is gone: waited for
    result = merge(target, ann, more=("--dry-run",))
    assert result.returncode == 0 and "looking for signs of life at 1 run that" in result.stderr
    assert merged(target, ann)[0]["brought"] == ["a", "b"]


def test_a_damaged_source_is_named_and_nothing_is_written(places):
    target, ann, bob = places
    put(ann, "a")
    path = put(bob, "b")
    whole = path.read_bytes(), path.with_suffix(".npz").read_bytes()
    unknown = whole[0].replace(b'"done"', b'"over"'), whole[0].replace(b'"schema": 1', b'"schema": 9')
    damages = {path: [b"{", b"[]", b"\xff", *unknown], path.with_suffix(".npz"): [b"", whole[1][:-1]]}
    for damaged, contents in damages.items():
        for text in contents:
            damaged.write_bytes(text)
            assert str(damaged) in one_line_error(merge(target, ann, bob))
        path.write_bytes(whole[0])
        path.with_suffix(".npz").write_bytes(whole[1])
    path.with_suffix(".npz").unlink()
    assert "missing" in one_line_error(merge(target, ann, bob))
    assert not target.exists()


def test_a_damaged_record_in_the_target_is_named_too(places):
    target, ann, _ = places
    put(ann, "a"), put(target, "a").with_suffix(".npz").write_bytes(b"")
    assert str(target / "records" / "a.npz") in one_line_error(merge(target, ann))


def test_a_record_under_another_runs_name_is_an_error(places):
    target, ann, _ = places
    path = put(ann, "a")
    for file in (path, path.with_suffix(".npz")):
        file.rename(file.with_stem("b"))
    assert f"{ann / 'records' / 'b.json'}: the record of another run, 'a'" in one_line_error(merge(target, ann))


def test_records_set_aside_and_hidden_files_are_not_records(places):
    target, ann, _ = places
    set_aside(put(ann, "old"))
    put(ann, "a")
    for name in ("._a.json", ".a.json.k3_x9z01"):
        (ann / "records" / name).write_bytes(b"\0")
    assert merged(target, ann)[0]["brought"] == ["a"]
    assert sorted(content(target)) == ["records/a.json", "records/a.npz"]


def test_a_folder_without_records_and_the_target_itself_are_errors(places):
    target, ann, bob = places
    put(target, "a"), put(ann, "b")
    (bob / "records").mkdir(parents=True)
    (bob / "link").symlink_to(target)
    assert f"{bob}: no records" in one_line_error(merge(target, ann, bob))
    assert "no such folder" in one_line_error(merge(target, ann, bob / "nowhere"))
    assert "no such folder" in one_line_error(merge(target, ann / "records" / "b.json"))
    for same in (target, target / "records", bob / "link", target / ".." / target.name):
        assert f"{same}: this is where records are brought to" in one_line_error(merge(target, ann, same))
    assert not (target / "records" / "b.json").exists()
    assert "DIR" in one_line_error(invoke("records", "merge", "--results", target))


@pytest.mark.parametrize("after", range(6))
def test_a_merge_killed_in_the_middle_leaves_whole_records_and_the_same_command_continues(places, monkeypatch, after):
    """Six renames: the failed record aside, and twice counts and record, and a record that has no counts."""
    target, ann, bob = places
    put(target, "a", "failed"), put(ann, "a"), put(ann, "b"), put(bob, "c", "skipped")
    replace, renames = os.replace, []

    def dies(source: Any, place: Any) -> None:
        if len(renames) == after:
            raise KeyboardInterrupt
        renames.append(place)
        replace(source, place)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dies)
        assert merge(target, ann, bob).returncode == 75
    read_records(target / "records")  # each is whole
    assert merge(target, ann, bob).returncode == 0
    left = content(target)
    assert read_record(target / "records" / "a.json")["status"] == "done" and left.pop("records/a.json.old1")
    assert left == content(ann) | content(bob)


@pytest.mark.slow
def test_a_merge_that_is_killed_for_good_is_continued_by_the_same_command(places):
    target, ann, _ = places
    for number in range(30):
        put(ann, f"r{number:02}", counts=number)
    code = (
        "import os, sys; from benchmark.cli.main import main; replace, left = os.replace, [17]\n"
        "def dies(*places):\n  left[0] -= 1\n  replace(*places) if left[0] else os.kill(os.getpid(), 9)\n"
        "os.replace = dies; main(sys.argv[1:])"
    )
    line = [sys.executable, "-c", code, "records", "merge", str(ann), "--results", str(target)]
    assert subprocess.run(line, cwd=ROOT).returncode == -9
    assert len(read_records(target / "records")) == 8
    assert len(merged(target, ann)[0]["brought"]) == 22
    files = content(target)
    (unfinished,) = (name for name in files if name.startswith("records/."))  # `clean` knows it
    assert {name: files[name] for name in files if name != unfinished} == content(ann)


def test_a_target_that_cannot_be_written_is_one_line(places, monkeypatch):
    target, ann, _ = places
    put(ann, "a")

    def refuses(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkstemp", refuses)
        assert "a.npz: Read-only file system" in one_line_error(merge(target, ann), 1)
    put(target, "a", "failed")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuses)
        assert "a.json: Read-only file system" in one_line_error(merge(target, ann), 1)
    shutil.rmtree(target)
    target.touch()
    assert str(target) in one_line_error(merge(target, ann))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_target_is_one_line(places):
    target, ann, _ = places
    put(target, "b"), put(ann, "a")
    (target / "records").chmod(0o555)
    try:
        assert "Permission denied" in one_line_error(merge(target, ann), 1)
    finally:
        (target / "records").chmod(0o755)


def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(places, monkeypatch):
    target, ann, _ = places
    put(ann, "a"), put(ann, "b")
    flush, flushed = os.fsync, []

    def full(handle: int) -> None:
        flushed.append(handle)
        if len(flushed) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert "no space left" in one_line_error(merge(target, ann), 1)
    assert [record["run_id"] for record, _ in read_records(target / "records")] == ["a"]
    assert merged(target, ann)[0] == {"brought": ["b"], "already_there": ["a"], "replaced": []}
    assert content(target) == content(ann)


def test_what_changes_between_plan_and_copy_is_not_merged(places):
    from benchmark.errors import UserError
    from benchmark.runs.merge import carry_out, plan

    target, ann, bob = places
    put(ann, "a")
    planned = plan([ann], target)
    put(ann, "a", counts=5)
    with pytest.raises(UserError, match=r"a\.json: changed while"):
        carry_out(planned)
    planned = plan([ann], target)
    there = put(target, "a", counts=6)
    with pytest.raises(UserError, match="by another process"):
        carry_out(planned)
    assert read_counts(there, read_record(there))["test_pooled"].max() == 6
    put(bob, "b")
    planned = plan([bob], target)
    (bob / "records" / "b.npz").unlink()
    with pytest.raises(UserError, match=r"b\.npz: No such file"):
        carry_out(planned)
    assert not (target / "records" / "b.json").exists()


def test_a_thousand_records_take_seconds_and_no_torch(places):
    target, ann, _ = places
    path = put(ann, "r000")
    text, counts = path.read_text(), path.with_suffix(".npz").read_bytes()
    for number in range(1, 1000):
        other = path.with_stem(f"r{number:03}")
        other.write_text(text.replace('"r000"', f'"r{number:03}"'))
        other.with_suffix(".npz").write_bytes(counts)
    code = (
        "import sys, time; from benchmark.cli.main import main; main(sys.argv[1:])\n"
        "assert 'torch' not in sys.modules; assert time.process_time() < 20, time.process_time()"
    )
    line = [sys.executable, "-c", code, "records", "merge", str(ann), "--results", str(target)]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "brought 1000," in result.stdout
    assert len(os.listdir(target / "records")) == 2000
