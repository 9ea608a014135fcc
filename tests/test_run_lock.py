"""Run locks: one holder at a time, whatever processes, machines and clocks do."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.errors import Interrupted, RunLocked, UserError
from benchmark.runs import lock as lock_module
from benchmark.runs.lock import Holder, LockMonitor, RunLock, read_lock, release
from tests.conftest import ROOT

BEAT = 0.15  # long enough for a machine that is busy with other tests
STRANGER = replace(Holder.me(), host="gone", machine="another boot")


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(lock_module, "HEARTBEAT_INTERVAL", BEAT)
    monkeypatch.setattr(lock_module, "HEARTBEAT_TIMEOUT", 9 * BEAT)


def locked_by(holder: Holder, folder: Path) -> Path:
    """A lock that `holder` has, and its file."""
    folder.mkdir(parents=True)
    (folder / holder.name).write_text('{"heartbeat": 1}')
    return folder / holder.name


def test_a_lock_has_one_holder_at_any_time_and_leaves_nothing(tmp_path):
    folder = tmp_path / "run" / "lock"
    with RunLock(folder).acquire():
        (name,) = os.listdir(folder)
        assert read_lock(folder).holder.name == name and Holder.parse(name).alive
        with pytest.raises(RunLocked, match=f"run is locked by process {os.getpid()} on"), RunLock(folder).acquire():
            pass
    assert read_lock(folder) is None and list(tmp_path.rglob("*")) == [tmp_path / "run"]
    folder.mkdir()  # whose file was removed by hand
    with RunLock(folder).acquire():
        assert len(os.listdir(folder)) == 1


def test_what_is_no_lock_is_one_line(tmp_path):
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock" / "notes.txt").touch()
    (tmp_path / "file").touch()
    for place, message in (("lock", r"notes\.txt: not a lock's file; remove it"), ("file", "a file stands where"),
                           ("file/runs/a/lock", "a file stands where")):
        with pytest.raises(UserError, match=message), RunLock(tmp_path / place).acquire():
            pass


def test_a_killed_process_of_this_machine_is_known_to_be_dead_at_once(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from benchmark.runs.lock import RunLock\n"
        "with RunLock(Path(sys.argv[1])).acquire(): print('mine', flush=True); time.sleep(60)"
    )
    line = [sys.executable, "-c", code, tmp_path / "lock"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "mine\n"
        with pytest.raises(RunLocked), RunLock(tmp_path / "lock").acquire():
            pass
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie still: nobody has asked how it ended
        with RunLock(tmp_path / "lock").acquire():
            pass


def test_a_process_id_that_was_used_again_is_not_the_holder():
    me = Holder.me()
    assert me.alive and replace(me, started=me.started - 1).alive is False
    assert replace(me, machine="another boot", started=0).alive is None, "another machine's process cannot be asked"


@pytest.mark.parametrize(("error", "alive"), [(PermissionError, None), (ProcessLookupError, False)])
def test_a_process_that_proc_does_not_show_is_dead_only_if_the_kernel_says_so(monkeypatch, error, alive):
    """With hidepid, /proc shows nobody the processes of others."""

    def kill(pid: int, number: int) -> None:
        raise error

    me = Holder.me()
    monkeypatch.setattr(lock_module, "Path", lambda path: Path(str(path).replace(f"/{me.pid}/", "/hidden/")))
    monkeypatch.setattr(os, "kill", kill)
    assert me.alive is alive



@pytest.mark.parametrize("clock", [-86400.0, 86400.0])
def test_whoever_beats_is_alive_whatever_its_clock_says(tmp_path, clock):
    file, monitor, stop = locked_by(STRANGER, tmp_path / "lock"), LockMonitor(), threading.Event()

    def beat() -> None:
        number = 1
        while not stop.wait(BEAT / 2):
            number += 1
            file.write_text(f'{{"heartbeat": {number}}}')
            os.utime(file, (time.time() + clock, time.time() + clock))

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        assert monitor.state(tmp_path / "lock", read_lock(tmp_path / "lock")) == "unknown", "one look tells nothing"
        ends = time.monotonic() + 18 * BEAT
        while time.monotonic() < ends:
            state = monitor.state(tmp_path / "lock", read_lock(tmp_path / "lock"))
            assert state in ("unknown", "alive")
            time.sleep(BEAT)
        assert state == "alive"
        with pytest.raises(RunLocked), RunLock(tmp_path / "lock").acquire(wait=True):
            pass
    finally:
        stop.set()
        beating.join()
    started = time.monotonic()
    with RunLock(tmp_path / "lock").acquire(wait=True):  # now it is silent for good
        assert time.monotonic() - started > 7 * BEAT


def test_the_lock_of_a_dead_machine_is_taken_over_by_exactly_one(tmp_path):
    locked_by(STRANGER, tmp_path / "lock")
    together, inside, most, done = threading.Barrier(8), [], [], []

    def want() -> None:
        lock, together_once = RunLock(tmp_path / "lock"), True
        while lock not in done:
            try:
                if together_once:
                    together.wait()
                together_once = False
                with lock.acquire(wait=True):
                    inside.append(lock)
                    most.append(len(inside))
                    time.sleep(BEAT)
                    inside.remove(lock)
                    done.append(lock)
            except RunLocked:
                lock = RunLock(tmp_path / "lock")

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 8 and set(most) == {1} and not list(tmp_path.iterdir())


def test_waiting_is_announced_once_and_can_be_stopped(tmp_path, caplog):
    locked_by(STRANGER, tmp_path / "run" / "lock")
    looks = iter([False, False, True])
    with (
        pytest.raises(Interrupted, match="stopped waiting for process"),
        RunLock(tmp_path / "run" / "lock").acquire(wait=True, asked_to_stop=lambda: next(looks)),
    ):
        raise AssertionError("has the lock")
    (line,) = caplog.messages
    assert f"waiting up to 1 s to see whether {STRANGER}, which locks run, is still active" in line


def test_a_process_that_slept_through_a_take_over_finds_out_before_it_writes(tmp_path):
    folder, lock = tmp_path / "lock", RunLock(tmp_path / "lock")
    with lock.acquire():
        lock.check()
        release(folder, read_lock(folder).holder)  # what another does that has found it dead
        locked_by(STRANGER, folder)
        time.sleep(3 * BEAT)
        with pytest.raises(RunLocked, match="lost the lock"):
            lock.check()
    assert os.listdir(folder) == [STRANGER.name], "what was lost is not given back"


def test_a_file_server_that_is_away_is_one_line(tmp_path, monkeypatch):
    lock = RunLock(tmp_path / "lock")

    def away(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    with lock.acquire():
        monkeypatch.setattr(lock_module, "open", away, raising=False)
        time.sleep(3 * BEAT)  # no heartbeat gets through, and none ends the thread
        with pytest.raises(UserError, match="Input/output error"):
            lock.check()
        monkeypatch.undo()
        lock.check()


def test_only_the_lock_of_the_named_holder_is_released(tmp_path):
    dead = replace(Holder.me(), pid=2**22 - 1)
    locked_by(dead, tmp_path / "lock")
    release(tmp_path / "lock", dead)
    assert not list(tmp_path.iterdir())
    file = locked_by(STRANGER, tmp_path / "lock")  # another was faster
    release(tmp_path / "lock", dead)
    release(tmp_path / "lock", None)
    assert file.exists()
