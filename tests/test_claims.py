"""Claims: one holder at a time, whatever processes, machines and clocks do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.errors import Held, Interrupted, UserError
from benchmark.lock_holder import FREE, Holder
from benchmark.run_lock import PATIENCE, Claim, Watch, look, progress
from tests.conftest import ROOT

BEAT = 0.15  # long enough for a machine that is busy with other tests
STRANGER = replace(Holder.me(), host="gone", machine="another boot", beat=BEAT)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setenv("SEMIHISTO_BEAT", str(BEAT))


def names(folder: Path) -> list[str]:
    return os.listdir(folder)


def claimed_by(holder: Holder, folder: Path) -> Path:
    """A claim that `holder` has, and its file."""
    folder.mkdir(parents=True)
    (folder / holder.name).touch()
    return folder / holder.name


def beat(file: Path, until: threading.Event, clock: float = 0.0) -> threading.Thread:
    """Another machine's holder, whose clock is `clock` seconds ahead: touches the file until told to stop."""

    def touch() -> None:
        number = 0
        while not until.wait(BEAT / 2):
            number += 1
            os.utime(file, ns=(0, int((1_700_000_000 + clock) * 1e9) + number))

    thread = threading.Thread(target=touch)
    thread.start()
    return thread


def test_a_claim_has_one_name_at_any_time_and_is_free_afterwards(tmp_path):
    folder = tmp_path / "run" / "claim"
    claim = Claim(folder)
    with claim.held():
        assert names(folder) == [claim.me.name]
        sight = look(folder)
        assert sight.holder == claim.me and sight.holder.is_here and not sight.holder.is_gone
        with pytest.raises(Held, match=f"process {os.getpid()} on .* is at work on run"), Claim(folder).held():
            pass
    assert names(folder) == [FREE] and look(folder) is None
    with Claim(folder).held():
        assert look(folder) is not None
    assert list(tmp_path.rglob("*")) == [tmp_path / "run", folder, folder / FREE]


def test_a_claim_whose_file_was_removed_by_hand_mends_itself(tmp_path):
    (tmp_path / "claim").mkdir()
    with Claim(tmp_path / "claim").held():
        assert len(names(tmp_path / "claim")) == 1


def test_strange_files_are_told(tmp_path):
    (tmp_path / "claim").mkdir()
    (tmp_path / "claim" / "notes.txt").touch()
    with pytest.raises(UserError, match=r"notes\.txt: not a claim's file; remove it"), Claim(tmp_path / "claim").held():
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"{tmp_path}/file: a file stands where"), Claim(tmp_path / "file").held():
        pass
    below = tmp_path / "file" / "runs" / "a" / "claim"
    with pytest.raises(UserError, match=rf"{tmp_path}/file: a file stands where"), Claim(below).held():
        pass


def test_a_killed_process_of_this_machine_is_known_to_be_gone_at_once(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from benchmark.run_lock import Claim\n"
        "with Claim(Path(sys.argv[1])).held(): print('mine', flush=True); time.sleep(60)"
    )
    line = [sys.executable, "-c", code, tmp_path / "claim"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "mine\n"
        with pytest.raises(Held), Claim(tmp_path / "claim").held():
            pass
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie still: nobody has asked how it ended
        assert look(tmp_path / "claim").holder.is_gone
        with Claim(tmp_path / "claim").held():
            pass


def test_a_process_id_that_came_back_is_not_the_holder():
    me = Holder.me()
    assert me.is_here and replace(me, started=me.started - 1).is_gone
    assert not replace(me, machine="another boot", started=0).is_gone, "another machine's process cannot be asked"


@pytest.mark.parametrize("clock", [-86400.0, 0.0, 86400.0])
def test_whoever_beats_is_alive_whatever_its_clock_says(tmp_path, clock):
    file = claimed_by(STRANGER, tmp_path / "claim")
    stop, watch = threading.Event(), Watch()
    beating = beat(file, stop, clock)
    try:
        assert watch.life(tmp_path / "claim") == "silent", "one look tells nothing"
        ends = time.monotonic() + 2 * PATIENCE * BEAT
        while time.monotonic() < ends:
            life = watch.life(tmp_path / "claim")
            assert life in ("silent", "alive")
            time.sleep(BEAT)
        assert life == "alive"
        with pytest.raises(Held), Claim(tmp_path / "claim").held(watch, wait=("silent",)):
            pass
    finally:
        stop.set()
        beating.join()
    started = time.monotonic()
    with Claim(tmp_path / "claim").held(watch, wait=("silent", "alive")):  # now it is silent for good
        assert time.monotonic() - started > (PATIENCE - 2) * BEAT
    assert names(tmp_path / "claim") == [FREE]


def test_a_claim_of_a_host_that_is_gone_is_taken_over_by_exactly_one(tmp_path):
    folder = tmp_path / "claim"
    claimed_by(STRANGER, folder)
    together, inside, most, done = threading.Barrier(8), [], [], []

    def want() -> None:
        claim = Claim(folder)
        together.wait()
        with claim.held(wait=("silent", "alive")):
            inside.append(claim)
            most.append(len(inside))
            time.sleep(BEAT)
            inside.remove(claim)
        done.append(claim)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 8 and set(most) == {1} and names(folder) == [FREE]


def test_waiting_is_told_once_and_can_be_stopped(tmp_path, caplog):
    claimed_by(STRANGER, tmp_path / "run" / "claim")
    looks = iter([False, False, True])
    claim = Claim(tmp_path / "run" / "claim")
    with (
        pytest.raises(Interrupted, match="stopped waiting for process"),
        claim.held(wait=("silent",), asked_to_stop=lambda: next(looks)),
    ):
        raise AssertionError("had the claim")
    (line,) = caplog.messages
    assert f"{STRANGER} has run: waiting for a sign of life, 1 s at most" in line


def test_many_silent_claims_take_the_time_of_one(tmp_path):
    folders = [tmp_path / f"run{number}" / "claim" for number in range(5)]
    for folder in folders:
        claimed_by(STRANGER, folder)
    watch, said, began = Watch(), [], time.monotonic()
    watch.settle([*folders, tmp_path / "free" / "claim"], said.append)
    assert PATIENCE * BEAT < time.monotonic() - began < 5 * PATIENCE * BEAT
    assert {watch.life(folder) for folder in folders} == {"dead"}
    assert len(said) == 1 and "at 5 runs" in said[0]


def test_a_process_that_slept_through_a_take_over_finds_out_before_it_writes(tmp_path):
    folder, claim = tmp_path / "claim", Claim(tmp_path / "claim")
    with claim.held():
        claim.check()
        os.rename(folder / claim.me.name, folder / STRANGER.name)  # what another does that has found it dead
        time.sleep(3 * BEAT)
        with pytest.raises(Held, match="silent for too long"):
            claim.check()
    assert names(folder) == [STRANGER.name], "what was lost is not given back"


def test_a_file_server_that_is_away_for_long_is_a_lost_claim(tmp_path, monkeypatch):
    claim = Claim(tmp_path / "claim")

    def away(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    with claim.held():
        monkeypatch.setattr(os, "utime", away)
        claim.check()
        time.sleep(PATIENCE * BEAT)
        with pytest.raises(Held, match="silent for too long"):
            claim.check()


def test_the_holder_says_how_far_it_is(tmp_path):
    claim = Claim(tmp_path / "claim")
    with claim.held():
        for said in ({"step": 3, "about": "x" * 500}, {"step": 4}):
            claim.said = said
            deadline = time.monotonic() + 10
            while progress(tmp_path / "claim", claim.me) != said:
                assert time.monotonic() < deadline
                time.sleep(BEAT)
