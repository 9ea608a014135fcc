"""`tools.gpu`: its order, its limits, and what it says; on the CPU, with commands that take no GPU.

And what the other tools say of mistakes, and count.
"""

import importlib
import subprocess
import sys
import time

import pytest

from tests.fake_glas import write_tree
from tools import command, gpu
from tools.bench import memory
from tools.gpu import Part


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def states(ended) -> dict[str, str]:
    return {one.part.name: one.state for one in ended}


@pytest.mark.slow
def test_every_command_is_one_that_there_is(tmp_path):
    """Their options are read by their own parsers; nothing is run."""
    for part in gpu.parts(tmp_path, None):
        words = part.commands[0]
        if words[2] == "pytest":
            continue
        asked = [*words[: 4 if words[2] == "benchmark" else 3], "--help"]
        helped = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        assert all(word in helped for word in words if word.startswith("--")), part.name


def test_a_failure_ends_no_other_part_and_is_named_first(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "GRACE", 1.0)
    look = f"print(open({str(tmp_path / 'summary.md')!r}).read()); print('last')"
    plan = [
        Part("fine", 0.3, (python("print('seven')"),), "use it"),
        Part("broken", 0.3, (python("raise SystemExit('no such kernel')"), python("print('still run')")), "never"),
        Part("missing", 0.2, (("no-such-program",),), "never"),
        Part("late", 0.2, (python(look),), "use it, too"),
    ]
    ended = gpu.run_all(plan, 60, tmp_path)
    assert states(ended) == {"fine": "done", "broken": "failed", "missing": "failed", "late": "done"}
    assert "no such kernel" in (tmp_path / "broken.txt").read_text() and ended[1].last == "still run"
    seen = (tmp_path / "late.txt").read_text()  # a machine that is taken away leaves what was measured
    assert "| missing | failed |" in seen and "| late | not begun |" in seen
    text = (tmp_path / "summary.md").read_text()
    assert "| fine | done | 0 | seven |" in text
    todo = text.partition("Next:")[2].strip().splitlines()
    assert todo[0].startswith("- broken failed: read broken.txt") and todo[-1] == "- late: use it, too"


def test_a_part_that_takes_too_long_is_stopped_and_the_rest_have_their_share(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "GRACE", 1.0)
    stubborn = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    plan = [Part("slow", 0.5, (python(stubborn),), ""), Part("quick", 0.5, (python("print('done')"),), "")]
    begun = time.monotonic()
    ended = gpu.run_all(plan, 7, tmp_path)
    assert states(ended) == {"slow": "out of time", "quick": "done"}
    assert time.monotonic() - begun < 10
    assert f"- slow out of time: run `{sys.executable}" in (tmp_path / "summary.md").read_text()


def test_time_that_a_part_leaves_goes_to_those_after_it():
    assert gpu.limits([0.25, 0.25, 0.5], 100) == 25
    assert gpu.limits([0.25, 0.5], 99) == 33  # the first took one second
    assert gpu.limits([0.5], -3) == 0


def test_shares_sum_to_1_and_the_tests_are_those_that_need_a_gpu(tmp_path):
    assert "main" not in [part.name for part in gpu.parts(tmp_path, str(tmp_path))], "no images, no runs"
    write_tree(tmp_path / "glas")
    parts = gpu.parts(tmp_path, str(tmp_path))
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert {"tests/test_capture.py", "tests/test_render.py"} <= set(parts[0].commands[0])


@pytest.mark.parametrize("minutes", ["0", "-5", "nan"])
def test_no_time_is_a_mistake(minutes, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path), "--minutes", minutes, "--dry-run"])
    with pytest.raises(gpu.UserError, match="at least 1"):
        gpu.main()


def test_without_a_gpu_it_is_one_line(tmp_path, monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path)])
    with pytest.raises(gpu.UserError, match="needs a CUDA device"):
        gpu.main()
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path), "--data", str(tmp_path), "--dry-run"])
    assert gpu.main() == 0
    told = capsys.readouterr()
    assert "tests: 230 s" in told.out and "main is left out: no images of glas" in told.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("choose_budget --out {tmp} foo=1", "foo"),
        ("bench.stream --method nosuch", "nosuch"),
        ("bench.stream --rounds 0", "from 1 on"),
        ("bench.slots --device cpu --method nosuch", "nosuch"),
        ("bench.slots --slots 2,x", "from 1 on"),
        ("bench.steady --steps 8 --size 32", "from 161 on"),
        ("bench.steady --device cuda:99", "--device cpu"),
        ("bench.grid --runs 1", "from 2 on"),
        ("bench.published --steps 8", "a multiple of 12"),
        ("bench.memory nosuch", "nosuch"),
        ("kill_test --grids 3 --workers 2", "at least one for each of 3 grids"),
        ("bench.machines {tmp} {tmp}", "no run"),
        ("annotation_lists", "DATASET"),
        ("annotation_lists nosuch", "nosuch"),
        ("parity.__main__", "FOLDER"),
        ("parity.__main__ {tmp}", "git clone https://github.com/"),
    ],
)
def test_a_mistake_is_told_in_a_line(line, said, tmp_path, monkeypatch, capfd):
    name, *words = line.format(tmp=tmp_path).split()
    monkeypatch.setattr(sys, "argv", [name, *words])
    with pytest.raises(SystemExit) as ended:
        command.run(importlib.import_module(f"tools.{name}").main)
    told = capfd.readouterr()
    assert ended.value.code == 2 and said in told.err.splitlines()[-1] and not told.out


@pytest.mark.slow
def test_a_grid_that_ends_early_says_why_itself(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["grid", "--runs", "2", "--method", "nosuch"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("tools.bench.grid").main()
    assert ended.value.code == 2 and "nosuch" in capfd.readouterr().err


def test_memory_is_counted_of_all_views_targets_and_states(tmp_path, monkeypatch, capsys):
    experiment = tmp_path / "some.yaml"
    experiment.write_text(
        "preset: demo\ndatasets: [synthetic]\nset: {net.name: unet_small, data.size: 32}\nrows:\n"
        "  adam: {method: corrmatch, set: {optimiser.name: adamw}}\n  targets: {method: dtc}\n"
        "  boxes: {method: unimatch, set: {optimiser.name: sgd}}\n  host: {method: toposemiseg}\n"
    )
    monkeypatch.setattr(memory, "GIB", 1e6)
    monkeypatch.setattr(sys, "argv", ["memory", str(experiment)])
    memory.main()
    told = capsys.readouterr()
    cells = [line.strip("| ").split(" | ") for line in told.out.splitlines()[2:]]
    assert [name for name, *_ in cells] == ["adam", "adam", "targets", "targets", "boxes", "boxes"]
    taken = {name: float(state) / float(trained) for name, trained, state, *_ in cells}
    assert taken["adam"] == pytest.approx(16, rel=0.01) and taken["boxes"] == pytest.approx(12, rel=0.01)
    assert "host is left out: a step cannot be followed" in told.err


def test_choose_budget_tells_a_diverged_run_and_goes_on(tmp_path, monkeypatch, capsys):
    from tools import choose_budget

    monkeypatch.setattr(choose_budget, "run_or_load", lambda *_: ({"status": "diverged"}, True))
    monkeypatch.setattr(sys, "argv", ["choose_budget", "--out", str(tmp_path), "optimiser.lr=1,2", "--draws", "2"])
    choose_budget.main()
    assert capsys.readouterr().out.splitlines() == [
        f"optimiser.lr={lr}  10 %: diverged (draw 0)  20 %: diverged (draw 0)" for lr in (1, 2)
    ]
