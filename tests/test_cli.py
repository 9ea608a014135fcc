"""The command line's surface: what there is, how fast it answers, what it says to mistakes."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cli.main import build_parser
from benchmark.paths import prepared_folder
from tests.conftest import ROOT, command, invoke, one_line_error

VERBS = ["run", "grid", "status", "clean", "report", "records", "verify", "predict", "evaluate", "export", "data",
         "new", "check", "profile", "list", "explain", "doctor"]


def test_the_verbs_are_these():
    """A new verb or option is a decision: change this test with it."""
    parser = build_parser()
    actions = next(a for a in parser._actions if a.dest == "verb")
    assert sorted(actions.choices) == sorted(VERBS) == sorted(re.findall(r"^  (\w+)  +\S", parser.epilog, re.M))
    options = {o for a in actions.choices["run"]._actions for o in a.option_strings} - {"-h", "--help"}
    assert options == {
        "--method", "--dataset", "--split", "--ratio", "--fold", "--seed", "--preset", "--set", "--labelled",
        "--device", "--results", "--data", "--keep", "--overwrite", "--checkpoint-seconds", "--json",
    }


def cpu_seconds() -> float:
    """What the processes started here have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "datasets"], ["run", "--help"]])
def test_help_and_list_answer_at_once_without_torch(arguments):
    seconds = []
    for _ in range(3):
        started = cpu_seconds()  # not the clock's: others may be at work on the machine
        result = command(*arguments)
        seconds.append(cpu_seconds() - started)
        assert result.returncode == 0 and result.stdout
    assert min(seconds) < 0.3
    code = (
        "import sys; from benchmark.cli.main import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules), set(sys.modules) & {'torch', 'numpy'}"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.parametrize("kind", ["methods", "datasets", "nets", "presets", "splits", "experiments"])
def test_list_is_json_on_request(kind):
    rows = json.loads(command("list", kind, "--json").stdout)
    assert all(row["name"] and row["about"] for row in rows)
    if kind == "methods":
        assert {row["name"] for row in rows} >= {"supervised", "mean_teacher", "semimoe"}
        assert all(2000 < row["year"] < 2030 and row["citation"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], ["Did you mean 'run'?"]),
        (["list", "method"], ["Did you mean 'methods'?"]),
        (["run", "--method", "semimo", "--dataset", "glas"], ["unknown method 'semimo'", "Did you mean 'semimoe'?"]),
        (["run", "--method", "semimoe", "--dataset", "glass"], ["unknown dataset 'glass'", "Did you mean 'glas'?"]),
        (["run", "--method", "semimoe", "--dataset", "synthetic", "--preset", "fiar"], ["Did you mean 'fair'?"]),
        (["run", "--method", "semimoe"], ["--dataset"]),
        (["run", "--method", "semimoe", "--dataset", "synthetic", "--ratoi", "20"], ["--ratoi"]),
        (["run", "--method", "semimoe", "--dataset", "synthetic", "--ratio", "many"], ["--ratio", "whole number"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--ratio", "37"], ["37", "20"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--fold", "9"], ["fold", "9"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--split", "oficial"], ["oficial", "official"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--seed", "-1"], ["seed"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--device", "cudda"], ["cudda"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--device", "cuda:7"], ["cuda:7", "cpu"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--labelled", "nowhere.txt"], ["nowhere.txt"]),
        (["run", "--method", "nowhere.py:X", "--dataset", "synthetic"], ["nowhere.py"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--set", "train.steps"], ["KEY=VALUE"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--set", "train.steps=0"], ["at least 1"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--set", "train.stpes=5"], ["'steps'"]),
        (["run", "--method", "mean_teacher", "--dataset", "synthetic", "--set", "method.decay=1.5", "--preset", "demo"],
         ["decay", "1.5"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--set", "net.name=unet_smal", "--preset", "demo"],
         ["unet_small"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--set", "data.size=50", "--preset", "demo"],
         ["50"]),
        (["run", "--method", "supervised", "--dataset", "glas", "--data", "nowhere"], ["glas", "nowhere"]),
        (["explain", "--method", "semimoe", "--dataset", "glas", "--set", "method.gama=1"], ["gamma"]),
        (["check", "semimo"], ["Did you mean 'semimoe'?"]),
        (["profile", "--method", "supervised", "--seconds", "0"], ["seconds"]),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(arguments, words, tmp_path):
    if arguments[0] == "run":
        arguments = [*arguments, "--results", str(tmp_path / "results")]
    line = one_line_error(invoke(*arguments))
    for word in words:
        assert word in line
    assert not (tmp_path / "results" / "records").exists()


def test_prepared_data_lie_in_one_place_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.delenv("SEMIHISTO_PREPARED")
    here = prepared_folder()
    monkeypatch.chdir(tmp_path)
    assert prepared_folder() == here == ROOT / "data" / "prepared"
    monkeypatch.setenv("SEMIHISTO_PREPARED", "elsewhere")
    assert prepared_folder() == Path("elsewhere")
