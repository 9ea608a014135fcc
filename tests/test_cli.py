"""The command line's surface: what there is, how fast it answers, what it says to mistakes."""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cli import common_args as shared
from benchmark.cli.main import build_parser, main
from benchmark.errors import UserError
from benchmark.paths import prepared_folder
from tests.conftest import ROOT, command, demo_run, invoke, one_line_error

VERBS = ["run", "grid", "tune", "status", "clean", "report", "diagnose", "records", "verify", "predict", "evaluate",
         "export", "data", "new", "check", "profile", "list", "explain", "doctor"]


def test_the_verbs_are_these():
    """A new verb or option is a decision: change this test with it."""
    parser = build_parser()
    actions = next(a for a in parser._actions if a.dest == "verb")
    assert sorted(actions.choices) == sorted(VERBS) == sorted(re.findall(r"^  (\w+)  +\S", parser.epilog, re.M))
    options = {o for a in actions.choices["run"]._actions for o in a.option_strings} - {"-h", "--help"}
    assert options == {
        "--method", "--dataset", "--split", "--ratio", "--fold", "--seed", "--preset", "--set", "--labelled",
        "--labels", "--unlabelled", "--device", "--results", "--data", "--keep", "--overwrite", "--checkpoint-seconds",
        "--json", "--tensorboard",
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
    assert min(seconds) < 0.6  # torch alone takes several times as long, on any machine
    code = (
        "import sys; from benchmark.cli.main import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules), set(sys.modules) & {'torch', 'numpy'}"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr


def test_data_metrics_and_the_report_need_neither_torch_nor_a_display():
    modules = ("nets, benchmark.metrics, benchmark.data.store, benchmark.data.splits, benchmark.data.check, "
               "benchmark.data.preview, benchmark.runs.run_files, benchmark.report.build, benchmark.report.figures, "
               "benchmark.report.image_selection, benchmark.report.page")
    code = (f"import sys, benchmark.{modules}; from benchmark.data.load import load_dataset; load_dataset('glas')\n"
            "assert benchmark.nets.NAMES and not {'torch', 'tkinter'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("kind", ["methods", "datasets", "nets", "presets", "splits", "experiments"])
def test_list_is_json_on_request(kind):
    rows = json.loads(invoke("list", kind, "--json").stdout)
    assert all(row["name"] and row["about"] for row in rows)
    if kind == "methods":
        assert {row["name"] for row in rows} >= {"supervised", "mean_teacher", "semimoe"}
        assert all(2000 < row["year"] < 2030 and row["citation"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], ["Did you mean 'run'?"]),
        (["run", "--method", "semimo", "--dataset", "glas"], ["unknown method 'semimo'", "Did you mean 'semimoe'?"]),
        (["run", "--method", "semimoe", "--dataset", "synthetic", "--ratio", "many"], ["--ratio", "whole percentage"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--seed", "-1"], ["seed"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--device", "cudda"], ["cudda"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--device", "cuda:7"], ["cuda:7", "cpu"]),
        (["run", "--bogus"], ["See: python -m benchmark run --help"]),
        (["run", "--method", "supervised", "--dataset", "glas", "--set", "train.steps", "10"],
         ["--set", "KEY=VALUE", "'train.steps'", "as in train.steps=100", "run --help"]),
        (["run", "--method", "supervised", "--dataset", "glas", "--ratio", "0.2"], ["for 20 % write 20. See"]),
        (["run", "--method", "all", "--dataset", "glas"], ["grid EXPERIMENT"]),
        (["explain", "--method", "supervised", "--dataset", "glas", "--dta", "x"],
         ["Did you mean '--data'? See: python -m benchmark explain --help"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--set", f"train.steps={'9' * 5000}"],
         ["must be int, not '999"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--set", "train.steps=1e300"], ["must be int"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--set", "train.steps=!!int x"],
         ["train.steps", "not valid YAML"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--set", "train.threads=10000"],
         ["train.threads=10000", "this machine has", "cores"]),
        (["run", "--method", "supervised", "--dataset", "synthetic", "--set", "train.batch_labelled=100000000"],
         ["train.batch_labelled", "GiB"]),
        (["run", "--ratio", "0.005"], ["whole percentage from 1 to 100, not '0.005'"]),
        (["report", "--device", "cpu"], ["--device are of an experiment; name it"]),
        (["grid", "my-data"], ["unknown experiment 'my-data'", "path of a .yaml file"]),
        (["grid", "demo", "--slots", "10000"], ["--slots 10000", "cores"]),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(arguments, words, tmp_path):
    if arguments[0] == "run":
        arguments = [*arguments, "--results", str(tmp_path / "results")]
    line = one_line_error(invoke(*arguments))
    for word in words:
        assert word in line
    assert not (tmp_path / "results" / "records").exists()


def test_a_file_of_the_folder_named_without_its_extension_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("men_teacher.py", "mine.yaml"):
        (tmp_path / name).write_text("")
    method = ("run", "--method", "men_teacher", "--dataset", "synthetic")
    assert "Did you mean 'men_teacher.py'?" in one_line_error(invoke(*method))
    assert "Did you mean 'mine.yaml'?" in one_line_error(invoke("grid", "mine"))


def test_prepared_data_lie_in_one_place_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.delenv("SEMIHISTO_PREPARED")
    here = prepared_folder()
    monkeypatch.chdir(tmp_path)
    assert prepared_folder() == here == ROOT / "data" / "prepared"
    monkeypatch.setenv("SEMIHISTO_PREPARED", "elsewhere")
    assert prepared_folder() == Path("elsewhere")


def test_explain_and_list_show_ranges_and_what_the_docstring_says_of_a_hyperparameter():
    shown = invoke("explain", "--method", "mean_teacher", "--dataset", "synthetic").stdout
    assert re.search(r"method\.decay +0\.99 +default \(ours\); in \[0, 1\]\n    of the teacher", shown)
    listed = {row["name"]: row for row in json.loads(invoke("list", "--json").stdout)}
    assert listed["ua_mt"]["display"] == "UA-MT" and listed["ua_mt"]["citation"] == "Yu et al. 2019, MICCAI"
    decay = listed["mean_teacher"]["hyperparameters"]["decay"]
    assert (decay["allowed"], decay["default"]) == ("in [0, 1]", "0.99") and decay["about"].startswith("of the teacher")


def test_explain_takes_what_run_takes():
    options = next(a for a in build_parser()._actions if a.dest == "verb").choices
    known = {name: {o for a in options[name]._actions for o in a.option_strings} for name in ("run", "explain")}
    assert known["run"] - known["explain"] == {"--keep", "--overwrite", "--checkpoint-seconds", "--tensorboard"}
    line = ["explain", "--method", "supervised", "--dataset", "synthetic"]
    assert invoke(*line, "--data", "x").returncode == 0
    for device, precision in (("cpu", "fp32"), ("cuda", "bf16")):
        found = json.loads(invoke(*line, "--device", device, "--json").stdout)["train.precision"]
        assert (found["value"], found["layer"]) == (precision, f"auto: on {device}")


def test_output_that_cannot_be_written_as_it_is_is_no_traceback(tmp_path):
    """An encoding without the letters, closed streams, a full disk; with a control where all is well."""
    line = ["new", "method", "very_own", "--output", str(tmp_path / "mètre.py")]
    for environment in ({"PYTHONIOENCODING": "ascii"}, {}):
        done = command(*line, env=os.environ | environment)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        assert ("m\\xe8tre.py" if environment else "mètre.py") in done.stdout
        shutil.rmtree(tmp_path)
    shell = f"{sys.executable} -m benchmark"
    for words, code in ((f"{shell} rnu 2>&-", 2), (f"{shell} list --json >&-", 0), (f"{shell} list >/dev/full", 1),
                        (f"{shell} rnu 2>/dev/full", 2)):
        done = subprocess.run(words, shell=True, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code and "Traceback" not in done.stderr and "rnu" not in done.stdout, done


def test_a_record_from_elsewhere_is_told_as_that(tmp_path):
    """Its weights are not here, and nobody shall think that this machine made it."""
    assert demo_run(tmp_path).returncode == 0
    assert "made on" not in demo_run(tmp_path).stderr
    shutil.rmtree(tmp_path / "runs")
    said = demo_run(tmp_path).stderr
    assert "already done" in said and "made on" in said and "--results" in said


def test_progress_shows_losses_from_its_first_line_and_new_ones_each_time(tmp_path):
    from benchmark.runs.request import Request
    from benchmark.runs.run import RunOptions, run_or_load

    heard = []
    small = {"data.size": 32, "train.steps": 40, "evaluate.times": 1, "train.batch_labelled": 3}
    run_or_load(Request("supervised", "synthetic", preset="demo", overrides=small), RunOptions(tmp_path),
                on_progress=lambda step, steps, means, seconds: heard.append(tuple(means.items())))
    assert len(heard) == len(set(heard)) == 3 and all(dict(means).keys() == {"supervised"} for means in heard)


def test_what_nobody_foresaw_is_one_line_and_a_traceback_only_on_demand(monkeypatch, capsys):
    def fails(arguments):
        raise KeyError("size")

    monkeypatch.setattr("benchmark.cli.main.run", fails)
    monkeypatch.delenv("SEMIHISTO_DEBUG", raising=False)
    assert main(["list"]) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: KeyError: 'size' (test_cli.py:") and line.count("\n") == 1
    monkeypatch.setenv("SEMIHISTO_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["list"])


def test_what_a_user_is_told_is_one_line_whatever_names_hold(monkeypatch, capsys):
    def refuses(arguments):
        raise UserError("a\nb.png: not an image")

    monkeypatch.setattr("benchmark.cli.main.run", refuses)
    assert main(["list"]) == 2 and capsys.readouterr().err == "error: a b.png: not an image\n"


def test_a_reader_that_goes_changes_no_exit_code(monkeypatch):
    class Gone:
        fileno = staticmethod(os.open(os.devnull, os.O_WRONLY).__index__)

        def write(self, text):
            raise BrokenPipeError

        flush = write

    monkeypatch.setattr(sys, "stdout", Gone())
    assert shared.show(argparse.Namespace(json=False), {}, ["a line"]) is None
