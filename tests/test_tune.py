"""`tune`: equal budgets, a choice that sees validation counts alone, and trials that are ordinary runs."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.cli.main import main
from benchmark.config.schema import tuning_of
from benchmark.errors import UserError
from benchmark.files import sha256, write_arrays
from benchmark.method import Method
from benchmark.ranges import Choice, Linear, Log
from benchmark.registry import METHODS
from benchmark.report.gather import gather
from benchmark.report.tuning import tuning_tables
from benchmark.runs.experiment import read_experiment
from benchmark.runs.plan import plan
from benchmark.runs.request import Specifier
from benchmark.runs.run import RunOptions, run_or_load
from benchmark.runs.tuning import ValidationCounts, choose, drawn, score, search, tuning_ranges
from benchmark.training.setup import build_method
from tests.conftest import ROOT, invoke, one_line_error, read_records

EXPERIMENT = """about: A test.
preset: demo
datasets: [synthetic]
draws: [0, 1]
trials: 3
reference: plain
set: {data.size: 32, train.steps: 2, train.batch_labelled: 2, evaluate.times: 1, evaluate.objects: false}
rows:
  plain: supervised
  teacher: mean_teacher
  bound: {method: supervised, ratios: [100], draws: [0]}
"""
OWN = """
from benchmark.ranges import Choice, Linear, Log
from methods.fixmatch import FixMatch

class Own(FixMatch):
    '''Nobody 2026: FixMatch with ranges of its own.'''
    tuning = TUNING
"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """An experiment's file whose `tune` has ended, its results folder, and what it said."""
    folder = tmp_path_factory.mktemp("tune")
    (folder / "mine.yaml").write_text(EXPERIMENT)
    asked = search(read_experiment(str(folder / "mine.yaml")), 3)
    for cell in asked.experiment.cells:
        run_or_load(cell.request, RunOptions(folder))
    for cell in asked.tuned(found(folder / "mine.yaml", folder)).cells:
        run_or_load(cell.request, RunOptions(folder))
    said = invoke("tune", folder / "mine.yaml", "--results", folder, "--json")  # finds that all is done
    assert said.returncode == 0, said.stderr
    return folder / "mine.yaml", folder, json.loads(said.stdout), said.stderr


def row_of(text, title, name):
    """The line of a row in a report's table."""
    (line,) = [x for x in text.split(f"### {title}")[1].split("\n###")[0].splitlines() if x.startswith(f"| {name} ")]
    return line


def found(path, results):
    asked = search(read_experiment(str(path)), 3)
    return asked.results(plan(asked.experiment, results, "cpu"), results)


# What is drawn


def test_every_method_draws_valid_settings_that_go_together():
    specifier = Specifier("cpu")
    for cell in read_experiment("demo").cells:
        if cell.request.fold == 0 and cell.row != "upper bound":
            run = specifier.specify(cell.request)
            ranges = tuning_ranges(run.spec.method, run.spec.values)
            assert len(ranges) > 1 or run.spec.method in ("supervised", "ensemble"), run.spec.method
            with torch.device("meta"):
                build_method(run.spec.with_values(drawn(ranges, 1)), (6, 18, 24), 2)


def test_draws_are_uniform_in_the_range_or_in_its_logarithm():
    shares = (np.arange(1000) + 0.5) / 1000
    values = np.array([Log(0.1, 10).at(share) for share in shares])
    assert abs(np.log(values).mean()) < 1e-3 and values.min() > 0.1 and values.max() < 10
    values = np.array([Linear(0.7, 0.9).at(share) for share in shares])
    assert abs(values.mean() - 0.8) < 1e-3 and abs(np.std(values) - 0.2 / 12**0.5) < 1e-3
    counts = np.unique([Choice("a", "b", "c", "d").at(share) for share in shares], return_counts=True)[1]
    assert list(counts) == [250] * 4


def test_what_a_trial_draws_follows_from_its_number_and_the_settings_name():
    ranges = {"optimiser.lr": Log(1e-4, 1e-2), "method.weight": Log(0.2, 5)}
    assert drawn(ranges, 0) == {}, "trial 0 is the default"
    assert drawn(ranges, 3)["method.weight"] == drawn({"method.weight": Log(0.2, 5)}, 3)["method.weight"]
    rates = [drawn(ranges, trial)["optimiser.lr"] for trial in range(1, 200)]
    assert len(set(rates)) == len(rates) and abs(np.log10(rates).mean() + 3) < 0.1
    assert drawn(ranges, 1) == {"optimiser.lr": 0.000318121, "method.weight": 0.291017}, "the same on every machine"


def test_ranges_outside_validity_are_one_line():
    for tuning, wrong in (
        ({"threshold": Linear(0.5, 1.5)}, "tuning: threshold must lie in [0, 1], not 1.5"),
        ({"treshold": Linear(0.5, 0.9)}, "Did you mean 'threshold'?"),
        ({"weight": Log(0, 1)}, "the range 0 to 1 (log) must rise, from above 0"),
        ({"weight": Linear(2, 1)}, "the range 2 to 1 must rise"),
        ({"ramp": Choice("constant", "cubic")}, "must be one of linear, sigmoid, constant, not 'cubic'"),
        ({"weight": (0.1, 1)}, "expected Log(low, high), Linear(low, high) or Choice(one, other), not (0.1, 1)"),
    ):
        kind = type("Own", (METHODS.load("fixmatch"),), {"tuning": tuning})
        with pytest.raises(UserError) as error:
            tuning_of(kind)
        assert wrong in str(error.value)
    kind = type("Own", (Method,), {"__init__": lambda self, task, *, size: None, "tuning": {"size": Linear(1, 5)}})
    kind.__init__.__kwdefaults__, kind.__init__.__annotations__ = {"size": 3}, {"size": int}
    with pytest.raises(UserError, match=r"must be int, not 2\.33333"):
        tuning_of(kind)


# What is chosen


def native(*dices: float) -> ValidationCounts:
    """Counts of images with these Dice, in percent."""
    return ValidationCounts(np.array([(round(d), 100 - round(d), 100 - round(d)) for d in dices]))


def test_the_best_mean_over_images_and_draws_is_chosen_the_first_of_equals():
    nothing = ValidationCounts(np.zeros((1, 3), int))
    assert np.isclose(score([native(50, 100), native(40, 60)]), (0.75 + 0.5) / 2)
    assert np.isclose(score([np.concatenate([native(50), nothing])]), 0.5), "an undefined image is left out"
    assert np.isnan(score([])) and np.isnan(score([native(50), nothing]))
    several = ValidationCounts(np.stack([native(20, 40), native(60, 80)], 1))  # [images, classes, 3]
    assert np.isclose(score([several]), 0.5)
    assert choose([[native(50)], [native(70, 50)], [native(50, 70)], [native(10)]]) == 1
    assert choose([[], [native(10)]]) == 1 and choose([[], []]) is None


def test_scrambling_every_test_count_changes_no_choice(tuned, tmp_path):
    path, results, *_ = tuned
    shutil.copytree(results / "records", tmp_path / "records")
    before = found(path, tmp_path)
    for seed, record in enumerate((tmp_path / "records").glob("*.json")):
        counts = dict(np.load(record.with_suffix(".npz")))
        random = np.random.default_rng(seed)
        for name in [name for name in counts if name.startswith("test_") and counts[name].dtype.kind in "iuf"]:
            counts[name] = random.permutation(counts[name].ravel()).reshape(counts[name].shape)
        with open(record.with_suffix(".npz"), "wb") as stream:
            write_arrays(stream, counts)
        content = json.loads(record.read_text()) | {"counts_sha256": sha256(record.with_suffix(".npz"))}
        for scores in content["scores"].values():
            scores["dice"] = random.random()
        record.write_text(json.dumps(content))
    after = found(path, tmp_path)
    assert [each.chosen for each in after] == [each.chosen for each in before]
    assert [each.validation for each in after] == [each.validation for each in before]
    groups = [gather(read_experiment(str(path)), folder, "cpu", trials=3)[0] for folder in (results, tmp_path)]
    assert groups[0].tuning.test != groups[1].tuning.test


def test_a_trial_is_counted_only_if_it_has_ended_and_none_is_chosen_before(tuned, tmp_path):
    path, results, *_ = tuned
    shutil.copytree(results / "records", tmp_path / "records")
    plain, teacher = found(path, tmp_path)
    assert (plain.finished, teacher.finished) == (3, 3) and None not in (plain.chosen, teacher.chosen)
    record = tmp_path / "records" / f"{teacher.trials[2][0].spec.run_id}.json"
    content = json.loads(record.read_text())
    for status, finished in (("diverged", 3), ("failed", 2)):
        record.write_text(json.dumps({**content, "status": status, "reason": "a test"}))
        teacher = found(path, tmp_path)[1]
        assert teacher.finished == finished and np.isnan(teacher.validation[2])
        assert (teacher.chosen is None) == (finished < 3)
    said = invoke("report", path, "--results", tmp_path, "--format", "md")
    assert "The budgets are not equal: 2 to 3 trials have ended" in said.stdout
    assert "| 2/3 | none |" in row_of(said.stdout, "Trials", "teacher")
    assert row_of(said.stdout, "Default and tuned, strict Dice", "teacher").endswith("| – | – | – | – | – | – |")


# The verb


def test_trials_are_ordinary_runs_and_the_chosen_setting_runs_on_all_draws(tuned):
    path, results, said, stderr = tuned
    assert said["states"] == {"done": 9} and said["states_tuned"] == {"done": 4}
    assert "not tuned: bound, synthetic 100 % (no validation images at this label ratio)" in stderr
    assert "without tuning ranges of their own, so optimiser.lr alone: plain" in stderr
    ours = {cell.row: cell.request for cell in read_experiment(str(path)).cells if cell.request.fold == 0}
    for place in said["places"]:
        (default,), *others = place["run_ids"]
        assert default == Specifier("cpu").specify(ours[place["row"]]).spec.run_id, "trial 0 is the default's own run"
        assert len(others) == 2 and place["finished"] == 3
        assert place["chosen"] == int(np.argmax(place["validation"]))
    records = {record["run_id"]: record for record, _ in read_records(results / "records")}
    teacher = said["places"][1]
    values = [records[trial[0]]["spec"]["values"] for trial in teacher["run_ids"]]
    assert len({value["optimiser.lr"] for value in values}) == len({value["method.weight"] for value in values}) == 3
    again = invoke("tune", path, "--results", results, "--dry-run", "--only", "row=teacher")
    assert again.returncode == 0 and "4 done; with the chosen settings 2 done" in again.stdout
    assert "teacher, synthetic 20 %: trial" in again.stdout and "plain" not in again.stdout
    shown = invoke("status", path, "--results", results, "--only", "row=teacher").stdout.splitlines()
    assert "2 done" in shown[-2], "its draws, not its trials"
    asked = shlex.split(shown[-1].removeprefix("the trials of `tune` are not counted here; see them with: "))
    assert invoke(*asked[3:]).stdout == again.stdout


def test_a_part_chooses_once_the_trials_of_all_parts_are_there(tuned, tmp_path, capsys):
    path, results, said, _ = tuned
    part = ["tune", str(path), "--shard", "1/2", "--dry-run", "--json"]
    assert main([*part, "--results", str(results)]) == 0
    assert [place["chosen"] for place in json.loads(capsys.readouterr().out)["places"]] == [
        place["chosen"] for place in said["places"]
    ]


def test_the_report_pairs_tuned_and_default_and_says_what_the_test_images_would_have_claimed(tuned, tmp_path):
    path, results, *_ = tuned
    shutil.copytree(results / "records", tmp_path / "records")
    default, again = gather(read_experiment(str(path)), tmp_path, "cpu", trials=3)
    assert (again.name, again.tuned, default.tuned) == ("mine-tuned", True, False)
    assert again.title == f"{default.title}, tuned" and again.rows == ("plain", "teacher")
    plain = default.tuning.found[0]
    means = [np.nanmean([image_dice(tmp_path, run.spec.run_id) for run in runs]) for runs in plain.trials]
    assert np.allclose(default.tuning.test[0], means)
    said = invoke("report", path, "--results", tmp_path, "--format", "md,csv")
    best = int(np.argmax(means))
    line = row_of(said.stdout, "Default and tuned, strict Dice", "plain")
    assert line.endswith(f"| {100 * (means[best] - means[0]) + 0.0:+.2f} (trial {best}) |")
    assert f"{100 * (means[plain.chosen] - means[0]) + 0.0:+.2f} (trial {plain.chosen})" in line
    pairs = zip(default.finished("plain", 20), again.finished("plain", 20), strict=True)
    gain = np.mean([image_dice(tmp_path, two.record["run_id"]) - image_dice(tmp_path, one.record["run_id"])
                    for one, two in pairs])  # fmt: skip
    assert f"| {100 * gain + 0.0:+.2f} |" in line
    second = replace(again, runs=tuple(again.finished("plain", 20)[1:]))
    gains, _ = tuning_tables(replace(default, tuning=replace(default.tuning, group=second)))
    ours = default.finished("plain", 20)[1].record["run_id"]
    assert gains.rows[0][2] == f"{100 * np.nanmean(image_dice(tmp_path, ours)):.2f} (1/2)", "of the draw of both"
    assert "n=2" in gains.rows[1][2], "nothing is tuned there"
    assert "### Default and tuned" not in (tmp_path / "tables" / "mine-tuned.md").read_text()
    assert "official tuned" not in said.stdout, "two rows have no Kendall's tau"
    assert said.stdout.count("Settings are chosen on draw 0. If tune was given other --draws") == 2
    both = invoke("report", path, "--results", tmp_path, "--format", "md", "--draws", "0,1")
    assert "Settings are chosen on draw 0, 1." in both.stdout
    less = invoke("report", path, "--results", tmp_path, "--format", "md", "--trials", 2)
    assert "| 2/2 |" in row_of(less.stdout, "Trials", "plain") and f"report {path} --trials 2" in less.stdout


def image_dice(results, run_id):
    """Strict Dice of each test image, by hand."""
    tp, fp, fn = np.load(results / "records" / f"{run_id}.npz")["test_native"][:, 0].T
    return 2 * tp / (2 * tp + fp + fn)


def test_mistakes_are_one_line_each(tmp_path):
    def error(text, *options):
        (tmp_path / "wrong.yaml").write_text(text)
        return one_line_error(invoke("tune", tmp_path / "wrong.yaml", "--results", tmp_path, *options))

    for number in (0, 1):
        assert f"--trials must be at least 2, it is {number}" in error(EXPERIMENT, "--trials", number)
    assert "line 5: trials must be greater than or equal to 2, not 1" in error(EXPERIMENT.replace("s: 3", "s: 1"))
    assert "say how many trials" in error(EXPERIMENT.replace("trials: 3\n", ""))
    assert "Did you mean 'tune_light'?" in one_line_error(invoke("tune", "tune_lite"))
    fixed = EXPERIMENT.replace("teacher: mean_teacher", "teacher: {method: mean_teacher, set: {method.weight: 0}}")
    assert "`set` fixes method.weight, which `tune` draws" in (said := error(fixed)) and "line 10" in said
    assert "fixes optimiser.lr" in error(EXPERIMENT.replace("set: {", "set: {optimiser.lr: 0.001, "))
    assert "has no draw 7; there is 0, 1" in error(EXPERIMENT, "--draws", "7")
    excluded = EXPERIMENT + "exclude: [{row: plain, draw: 0, reason: a test}]\n"
    assert "plain, synthetic 20 % has no draw 0; there is 1" in error(excluded, "--draws", "0")
    (tmp_path / "wrong.yaml").write_text(excluded)
    asked = search(read_experiment(str(tmp_path / "wrong.yaml")), 3)
    assert {str(at): draws for at, draws in asked.draws.items()} == {
        "plain, synthetic 20 %": (1,), "teacher, synthetic 20 %": (0,)}
    assert len(search(read_experiment(str(tmp_path / "wrong.yaml")), 3, (1,)).draws) == 2, "bound has no draw 1"
    assert "expected draws as in 0,1" in error(EXPERIMENT, "--draws", "0,0")
    assert "nothing to tune: bound, synthetic 100 %: no validation" in error(EXPERIMENT, "--only", "row=bound")
    (tmp_path / "own.py").write_text(OWN.replace("TUNING", '{"threshold": Linear(0.5, 1.5)}'))
    said = error(EXPERIMENT.replace("mean_teacher", str(tmp_path / "own.py")))
    assert "wrong.yaml, line 10: Own.tuning: threshold must lie in [0, 1], not 1.5" in said
    told = one_line_error(invoke("report", "--trials", 3))
    assert "--only, --trials, --draws and --device are of an experiment" in told


# Interrupted, and shared


def start(path, results):
    line = [sys.executable, "-m", "benchmark", "tune", path, "--slots", "1", "--results", results, "--json"]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_or_interrupted_anywhere_it_goes_on_and_chooses_the_same(tuned, tmp_path):
    path, _, whole, _ = tuned
    for records, how in ((2, signal.SIGKILL), (6, signal.SIGINT)):
        with start(path, tmp_path) as process:
            begun = time.monotonic()
            while len(list((tmp_path / "records").glob("*.json"))) < records and process.poll() is None:
                assert time.monotonic() - begun < 200
                time.sleep(0.02)
            process.send_signal(how)
            process.communicate(timeout=200)
    said = invoke("tune", path, "--results", tmp_path, "--slots", 1, "--json")
    assert said.returncode == 0 and json.loads(said.stdout) == whole, said.stderr


@pytest.mark.slow
def test_two_processes_share_the_trials_and_choose_the_same(tuned, tmp_path):
    path, _, whole, _ = tuned
    with start(path, tmp_path) as one, start(path, tmp_path) as other:
        answers = [process.communicate(timeout=300) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), answers
    assert [json.loads(out) for out, _ in answers] == [whole, whole]
    lines = [line for _, err in answers for line in err.splitlines() if ": done (" in line]
    done = [line for line in lines if "by another grid" not in line]
    assert len(done) == len(list((tmp_path / "records").glob("*.json"))) >= 9, "no run was done twice"

