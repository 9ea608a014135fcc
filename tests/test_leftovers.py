"""What `clean` lists, what it removes, and what it never touches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli.clean import human
from benchmark.errors import Held, UserError
from benchmark.files import remove_unfinished
from benchmark.lock_holder import Holder, machine
from benchmark.run_lock import Claim, look
from benchmark.runs import cleanup as leftovers
from benchmark.runs.records import set_aside
from tests.conftest import invoke, one_line_error
from tests.test_merge import content, put

HOUR = 3600


def fill(path: Path, bytes_: int = 10, age: float = 0) -> Path:
    """A file of some size, last written `age` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * bytes_)
    os.utime(path, (time.time() - age,) * 2)
    return path


def run_folder(results: Path, run_id: str, *names: str) -> Path:
    """A run's folder with a free claim and some files."""
    folder = results / "runs" / run_id
    fill(folder / "claim" / "free", 0)
    for name in names:
        fill(folder / name)
    return folder


def clean(results: Path, *arguments: str) -> dict[str, Any]:
    """The JSON answer of a cleaning that went well; paths from the results folder on."""
    result = invoke("clean", "--results", results, "--json", *arguments)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    for kind in answer["kinds"].values():
        kind["paths"] = [str(Path(path).relative_to(results)) for path in kind["paths"]]
    return answer


def removed(results: Path, *arguments: str) -> set[str]:
    """The files that go; first the list is compared with it, which removes nothing."""
    before = content(results)
    listed = clean(results, *arguments)
    assert content(results) == before and not listed["removed"]
    answer = clean(results, *arguments, "--yes")
    assert (answer.pop("removed"), listed.pop("removed")) == (True, False)
    assert answer["kinds"] == listed["kinds"]
    after = content(results)
    assert {name: before[name] for name in after if "claim" not in name} == {
        name: after[name] for name in after if "claim" not in name}
    assert clean(results, *arguments)["kinds"] == {
        kind: {"bytes": 0, "paths": []} for kind in answer["kinds"]}
    return before.keys() - after.keys()


def test_with_nothing_to_do_it_says_so(tmp_path):
    put(tmp_path / "results", "a")
    for results in (tmp_path / "nowhere", tmp_path / "results"):
        for more in ((), ("--yes",), ("--what", "runs", "--what", "old")):
            result = invoke("clean", "--results", results, *more)
            assert result.returncode == 0 and "nothing to remove" in result.stdout and not result.stderr
    assert not (tmp_path / "nowhere").exists()


def test_without_yes_it_lists_sizes_and_removes_nothing(tmp_path):
    put(tmp_path, "a")
    fill(run_folder(tmp_path, "a") / "checkpoint.pt", 3 * 2**20)
    fill(tmp_path / "records" / "b.json.old1", 100)
    before = content(tmp_path)
    result = invoke("clean", "--results", tmp_path, "--what", "old", "--what", "checkpoints", "--what", "old")
    assert result.returncode == 0 and "--yes" in result.stderr
    assert result.stdout.splitlines() == [
        f"   3.0 MiB  {tmp_path / 'runs' / 'a' / 'checkpoint.pt'}",
        "checkpoints: 1, 3.0 MiB",
        f"     100 B  {tmp_path / 'records' / 'b.json.old1'}",
        "old: 1, 100 B",
    ]
    assert content(tmp_path) == before
    result = invoke("clean", "--results", tmp_path, "--what", "checkpoints", "--yes")
    assert "checkpoints: 1, 3.0 MiB removed" in result.stdout and not result.stderr


def test_sizes_are_for_people():
    assert [human(n) for n in (0, 1023, 1024, 5 * 2**20, 3 * 2**40)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 TiB"]


def test_unfinished_files_of_runs_that_nobody_holds_go_and_nothing_else(tmp_path):
    put(tmp_path, "a")
    run_folder(tmp_path, "a", ".weights.pt.0a_b9xyz", "weights.pt", "log.jsonl", "masks.npz", ".note")
    run_folder(tmp_path, "b", ".checkpoint.pt.abcdefgh", "checkpoint.pt", ".claim.12345678/host,m,1,2,10,t")
    run_folder(tmp_path, "c", "checkpoint.pt", "error.txt")
    assert removed(tmp_path) == {
        "runs/a/.weights.pt.0a_b9xyz", "runs/b/.checkpoint.pt.abcdefgh", "runs/b/.claim.12345678/host,m,1,2,10,t"}
    assert not (tmp_path / "runs" / "b" / ".claim.12345678").exists()


def test_unfinished_files_of_records_go_after_an_hour(tmp_path):
    put(tmp_path, "a")
    records = tmp_path / "records"
    fill(records / ".b.json.abcdefgh", age=HOUR + 60), fill(records / ".b.npz.abcdefgh", age=HOUR + 60)
    fill(records / ".c.json.abcdefgh", age=HOUR - 60), fill(records / ".d.npz.abcdefgh", age=-HOUR)
    fill(records / ".gitkeep", age=9 * HOUR), fill(records / ".a.yaml.abcdefgh", age=9 * HOUR)
    fill(records / "orphan.npz", age=9 * HOUR)
    assert removed(tmp_path) == {"records/.b.json.abcdefgh", "records/.b.npz.abcdefgh"}


def test_a_folder_that_a_killed_clean_had_put_aside_goes(tmp_path, monkeypatch):
    put(tmp_path, "a")
    run_folder(tmp_path, "a", "weights.pt")
    run_folder(tmp_path, ".hidden", "weights.pt")

    def dies(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", dies)
        assert invoke("clean", "--results", tmp_path, "--what", "runs", "--yes").returncode == 75
    assert look(tmp_path / "runs" / "a" / "claim") is None and not (tmp_path / "runs" / "a").exists()
    (name,) = {path.split("/")[1] for path in removed(tmp_path)}
    assert name.startswith(".a.clean-")
    assert (tmp_path / "runs" / ".hidden").exists()


def test_checkpoints_go_of_runs_with_a_whole_done_record_only(tmp_path):
    for run_id, status in (("done", "done"), ("failed", "failed"), ("diverged", "diverged"), ("skipped", "skipped")):
        put(tmp_path, run_id, status)
    put(tmp_path, "damaged").write_bytes(b"{")
    put(tmp_path, "lost").with_suffix(".npz").unlink()
    path = put(tmp_path, "moved")
    path.rename(path.with_stem("other")), path.with_suffix(".npz").rename(path.with_name("other.npz"))
    set_aside(put(tmp_path, "aside"))
    for run_id in ("done", "failed", "diverged", "skipped", "damaged", "lost", "other", "aside", "missing"):
        run_folder(tmp_path, run_id, "checkpoint.pt", "weights.pt")
    said = clean(tmp_path, "--what", "checkpoints")["left_alone"]
    assert [word for word in ("damaged.json", "lost.npz") if any(word in line for line in said)] == [
        "damaged.json", "lost.npz"]
    assert removed(tmp_path, "--what", "checkpoints") == {"runs/done/checkpoint.pt"}


def test_records_set_aside_go_and_current_ones_stay(tmp_path):
    put(tmp_path, "a"), put(tmp_path, "b", "failed")
    set_aside(put(tmp_path, "a", counts=1)), set_aside(put(tmp_path, "a", counts=2)), put(tmp_path, "a")
    for name in ("a.json.older", "a.txt.old1", "notes.old1"):
        fill(tmp_path / "records" / name)
    assert removed(tmp_path, "--what", "old") == {
        f"records/a.{kind}.old{number}" for kind in ("json", "npz") for number in (1, 2)}


def test_whole_folders_go_of_runs_with_a_done_record_only(tmp_path):
    put(tmp_path, "a"), put(tmp_path, "b", "failed"), put(tmp_path, "c").write_bytes(b"{")
    names = ("weights.pt", "log.jsonl", "checkpoint.pt", "panels/1.png")
    for run_id in "abcd":
        run_folder(tmp_path, run_id, *names)
    fill(tmp_path / "runs" / "a.txt")
    assert removed(tmp_path, "--what", "runs") == {f"runs/a/{name}" for name in (*names, "claim/free")}
    assert sorted(os.listdir(tmp_path / "runs")) == ["a.txt", "b", "c", "d"]


def test_a_run_whose_folder_goes_is_counted_once(tmp_path):
    put(tmp_path, "a")
    run_folder(tmp_path, "a", "checkpoint.pt", ".log.jsonl.abcdefgh")
    run_folder(tmp_path, "b", "checkpoint.pt", ".log.jsonl.abcdefgh")
    arguments = ("--what", "runs", "--what", "unfinished", "--what", "checkpoints")
    kinds = clean(tmp_path, *arguments)["kinds"]
    assert list(kinds) == ["checkpoints", "runs", "unfinished"] and not kinds["checkpoints"]["paths"]
    assert kinds["runs"] == {"bytes": 20, "paths": ["runs/a"]}
    assert kinds["unfinished"] == {"bytes": 10, "paths": ["runs/b/.log.jsonl.abcdefgh"]}
    assert "runs/b/checkpoint.pt" not in removed(tmp_path, *arguments)


@pytest.mark.parametrize("what", ["unfinished", "checkpoints", "runs"])
def test_what_somebody_is_at_is_left_alone(tmp_path, what):
    put(tmp_path, "a"), put(tmp_path, "b")
    for run_id in "ab":
        run_folder(tmp_path, run_id, "checkpoint.pt", ".log.jsonl.abcdefgh")
    claim = tmp_path / "runs" / "b" / "claim"
    os.rename(claim / "free", claim / "elsewhere,another,1,2,0.2,token")
    dead = threading.Event()

    def beat() -> None:
        while not dead.wait(0.05):
            os.utime(claim / "elsewhere,another,1,2,0.2,token")

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with Claim(tmp_path / "runs" / "a" / "claim").held():
            before = content(tmp_path)
            for more in ((), ("--yes",)):
                answer = clean(tmp_path, "--what", what, *more)
                assert answer["kinds"] == {what: {"bytes": 0, "paths": []}}
                here, elsewhere = answer["left_alone"]
                assert f"process {os.getpid()} on" in here and "process 1 on elsewhere" in elsewhere
            assert content(tmp_path).keys() == before.keys()
    finally:
        dead.set()
        beating.join()
    # a machine that is gone for good is waited for, and what it has left can go
    waited = invoke("clean", "--results", tmp_path, "--what", what, "--yes")
    assert "at 1 run that other machines have" in waited.stderr and f"{what}: 2, " in waited.stdout



def test_a_claim_of_a_process_that_is_known_to_be_gone_is_taken_over(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = run_folder(tmp_path, "b", ".checkpoint.pt.abcdefgh", "checkpoint.pt")
    name = Holder(os.uname().nodename, machine(), gone.pid, 1, 10.0, "token").name
    os.rename(folder / "claim" / "free", folder / "claim" / name)
    assert clean(tmp_path)["kinds"]["unfinished"]["paths"] == ["runs/b/.checkpoint.pt.abcdefgh"]
    assert clean(tmp_path, "--yes")["kinds"]["unfinished"]["paths"] == ["runs/b/.checkpoint.pt.abcdefgh"]
    assert sorted(content(folder)) == ["checkpoint.pt", "claim/free"]


def test_a_run_begun_anew_between_the_list_and_the_claim_keeps_its_folder(tmp_path, monkeypatch):
    record = put(tmp_path, "a")
    folder = run_folder(tmp_path, "a", "checkpoint.pt", "weights.pt")
    held = Claim.held

    def slow(claim: Claim, *arguments: Any) -> Any:
        set_aside(record)  # as `run --overwrite` does, which was stopped then
        return held(claim, *arguments)

    monkeypatch.setattr(Claim, "held", slow)
    for what in ("runs", "checkpoints"):
        put(tmp_path, "a")
        assert clean(tmp_path, "--what", what, "--yes")["kinds"][what]["paths"] == []
        assert (folder / "checkpoint.pt").exists() and (folder / "weights.pt").exists()


def test_who_wants_the_claim_while_a_folder_goes_finds_it_held_or_starts_in_a_new_folder(tmp_path, monkeypatch):
    put(tmp_path, "a")
    folder = run_folder(tmp_path, "a", "weights.pt")
    rename, removes = os.rename, shutil.rmtree
    seen = []

    def before(source: Any, place: Any) -> None:
        if Path(source) == folder:
            with pytest.raises(Held), Claim(folder / "claim").held():
                pass
            seen.append("held")
        rename(source, place)

    def after(path: Path, *arguments: Any, **options: Any) -> None:
        if ".clean-" in Path(path).name and "new" not in seen:
            seen.append("new")
            claim.__enter__()
            fill(folder / "checkpoint.pt")
        removes(path, *arguments, **options)

    claim = Claim(folder / "claim").held()
    monkeypatch.setattr(os, "rename", before)
    monkeypatch.setattr(shutil, "rmtree", after)
    assert clean(tmp_path, "--what", "runs", "--yes")["kinds"]["runs"]["paths"] == ["runs/a"]
    assert seen == ["held", "new"]
    sight = look(folder / "claim")
    assert sight is not None and sight.holder.is_here  # the new holder's claim was not let go by the old one
    claim.__exit__(None, None, None)
    assert sorted(content(folder)) == ["checkpoint.pt", "claim/free"]


@pytest.mark.slow
def test_who_works_in_a_folder_never_loses_a_file_to_a_clean_at_the_same_time(tmp_path):
    """One takes the claim, writes and looks again; the other cleans, again and again."""
    put(tmp_path, "a")
    folder, until, lost, worked = tmp_path / "runs" / "a", time.monotonic() + 2, [], []

    def work() -> None:
        while time.monotonic() < until:
            try:
                with Claim(folder / "claim").held():
                    fill(folder / "weights.pt")
                    time.sleep(0.002)
                    (worked if (folder / "weights.pt").exists() else lost).append(1)
            except UserError:  # held, or the folder went in the middle of making a claim
                continue
            time.sleep(0.002)

    worker = threading.Thread(target=work)
    worker.start()
    gone = 0
    while worker.is_alive():
        gone += len(leftovers.clean(tmp_path, ["runs"], remove=True).found)
    worker.join()
    assert not lost and worked and gone


def test_links_are_neither_followed_nor_removed(tmp_path):
    results, outside = tmp_path / "results", tmp_path / "outside"
    put(results, "a"), put(results, "b"), put(results, "c")
    for name in ("checkpoint.pt", ".log.jsonl.abcdefgh", "kept"):
        fill(outside / name, age=9 * HOUR)
    folder = run_folder(results, "a", "weights.pt")
    (results / "runs" / "b").symlink_to(outside)
    (results / "runs" / ".b.clean-01234567").symlink_to(outside)
    (folder / "checkpoint.pt").symlink_to(outside / "checkpoint.pt")
    (folder / ".log.jsonl.abcdefgh").symlink_to(outside / ".log.jsonl.abcdefgh")
    (results / "records" / ".a.json.abcdefgh").symlink_to(outside / "kept")
    (results / "records" / "a.json.old1").symlink_to(outside / "kept")
    before = content(outside)
    assert removed(results, "--what", "unfinished", "--what", "checkpoints", "--what", "old") == set()
    (folder / "folder").symlink_to(outside)  # a folder that goes takes its links along, not what they point to
    clean(results, "--what", "runs", "--yes")
    assert not folder.exists() and (results / "runs" / "b").is_symlink()
    assert content(outside) == before


def test_what_cannot_be_removed_is_told_and_does_not_keep_others(tmp_path, monkeypatch):
    fill(tmp_path / "records" / "a.json.old1"), fill(tmp_path / "records" / "b.json.old1")
    unlink = Path.unlink

    def refuses(path: Path, **options: Any) -> None:
        if path.name.startswith("a."):
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuses)
    result = invoke("clean", "--results", tmp_path, "--what", "old", "--yes")
    assert "1 thing could not be removed" in one_line_error(result, 1)
    assert "a.json.old1: Permission denied" in result.stderr and "b.json.old1" in result.stdout
    assert sorted(content(tmp_path)) == ["records/a.json.old1"]
    assert "nothing that can be removed" in invoke("clean", "--results", tmp_path, "--what", "old", "--yes").stdout


def test_a_claim_of_an_older_version_is_told_and_its_folder_kept(tmp_path):
    put(tmp_path, "a")
    fill(tmp_path / "runs" / "a" / "claim"), fill(tmp_path / "runs" / "a" / "weights.pt")
    assert "claim: a file stands" in invoke("clean", "--results", tmp_path, "--what", "runs").stderr
    one_line_error(invoke("clean", "--results", tmp_path, "--what", "runs", "--yes"), 1)
    assert (tmp_path / "runs" / "a" / "weights.pt").exists()


def test_what_takes_known_kinds_only(tmp_path):
    assert "Did you mean 'checkpoints'?" in one_line_error(
        invoke("clean", "--results", tmp_path, "--what", "checkpoint"))


def test_who_claims_a_run_tidies_what_killed_writers_left_and_nothing_else(tmp_path):
    folder = run_folder(tmp_path, "a", ".checkpoint.pt.abcdefgh", ".log.jsonl.0a_b9xyz", ".note", ".nfs0001", "x.pt")
    remove_unfinished(folder, "log.jsonl")
    assert (folder / ".checkpoint.pt.abcdefgh").exists() and not (folder / ".log.jsonl.0a_b9xyz").exists()
    remove_unfinished(folder)
    assert sorted(content(folder)) == [".nfs0001", ".note", "claim/free", "x.pt"]
    remove_unfinished(folder / "nowhere")
