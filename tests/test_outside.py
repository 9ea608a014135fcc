"""Methods and data sets that users bring: by path, and from installed packages."""

import json
import os
import textwrap

import pytest

from benchmark.data.collections import COLLECTIONS
from benchmark.data.load import load_dataset
from benchmark.errors import UserError
from benchmark.registry import DATASETS, METHODS, Registry
from benchmark.report.gather import group_runs
from benchmark.runs.experiment import read_experiment
from benchmark.runs.request import Request, specify
from benchmark.training.setup import code_versions
from tests.conftest import ROOT, command, invoke, one_line_error, read_records, refused, tiny_settings

SOURCE = '''
from benchmark.method import Method, Task

class Own(Method):
    """Nobody 2026: supervised learning under another name."""

    def __init__(self, task: Task, *, weight: float = 1.0) -> None:
        super().__init__()
        self.task, self.weight, self.net = task, weight, task.network()

    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.weight * self.task.criterion(self.net(labelled.weak), labelled.mask)}

    def predict(self, image):
        return self.net(image)
'''
MORE = "\nclass Other(Own):\n    '''Nobody 2026: the same.'''\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of one's own, to which paths are relative, with a method in a folder whose name has a space."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMIHISTO_RESULTS", str(tmp_path / "results"))
    (tmp_path / "my methods").mkdir()
    (tmp_path / "my methods" / "own.py").write_text(SOURCE)
    return tmp_path


def run(method, *more, **settings):
    return invoke("run", "--method", method, "--dataset", "synthetic", "--preset", "demo",
                  *tiny_settings(train__steps=2, evaluate__times=1, **settings), "--json", *more)


def test_a_file_runs_by_its_path_and_a_moved_one_is_the_same_run(here):
    first = json.loads(run("my methods/own.py:Own").stdout)
    assert first["run_id"].startswith("own-synthetic") and first["numerics"]["source"]
    assert "'my methods/own.py:Own'" in first["command"]
    for path in ("my methods/own.py", here / "my methods" / "own.py"):
        assert "already done" in run(path).stderr
    (here / "my methods" / "own.py").rename(here / "own.py")
    assert "already done" in run("own.py").stderr


def test_a_file_that_was_changed_is_stale_and_not_passed_off_as_the_old_one(here):
    run("my methods/own.py")
    (here / "my methods" / "own.py").write_text(SOURCE + "# changed\n")
    assert "stale" in one_line_error(run("my methods/own.py"))


def test_workers_of_a_grid_and_the_report_take_a_path_and_call_it_by_its_class(here):
    (here / "mine.yaml").write_text(textwrap.dedent("""
        about: Mine beside another.
        preset: demo
        datasets: [synthetic]
        draws: [0]
        rows:
          all: {methods: [my methods/own.py, supervised], set: {train.steps: 2, data.size: 32, evaluate.times: 1}}
    """))
    done = invoke("grid", "mine.yaml", "--slots", "1")
    assert done.returncode == 0, done.stderr
    text = invoke("report", "mine.yaml", "--format", "md").stdout
    assert "| Own |" in text and "own.py" not in text.split("Made by")[0]
    everything = invoke("report", "--format", "md").stdout
    assert "| Own |" in everything and str(here) not in everything


def test_a_class_in_our_folder_is_described_without_being_run(tmp_path):
    own = Registry("method", "", "Method")
    own.folder = tmp_path
    (tmp_path / "mine.py").write_text("NAME = 'x'\nclass Mine(Method):\n    display = NAME\n    later: dict\n")
    assert own.describe("mine").display == "mine" and own.describe("mine").later == {}, "only literals are read"
    (tmp_path / "theirs.py").write_text("class Theirs(Mine): pass\n")
    with pytest.raises(UserError, match=r"theirs.py holds no class with Method among its bases; write"):
        own.describe("theirs")


def test_two_classes_of_one_name_are_told_apart_in_a_table(here):
    (here / "other.py").write_text(SOURCE)
    assert run("my methods/own.py").returncode == run("other.py").returncode == 0
    (group,) = group_runs(read_records(here / "results" / "records"))
    assert group.rows == ("other.py:Own", "own.py:Own")
    (here / "two.yaml").write_text("datasets: [synthetic]\nrows:\n  a: {methods: [my methods/own.py, other.py]}\n")
    assert {cell.row for cell in read_experiment("two.yaml").cells} == {"my methods/own.py:Own", "other.py:Own"}


def test_a_file_is_imported_once_while_it_stays_as_it_is(here):
    first = METHODS.load("my methods/own.py:Own")
    assert METHODS.load(str(here / "my methods" / "own.py")) is first
    (here / "my methods" / "own.py").write_text(SOURCE.replace("1.0", "2.0"))
    assert METHODS.load("my methods/own.py:Own") is not first


SIGNATURE = "task: Task, *, weight: float = 1.0"


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        (SOURCE, "Onw", ["no class 'Onw'", "Did you mean 'Own'?"]),
        (SOURCE + "\nthing = 3\n", "thing", ["an instance of int, which does not derive from Method"]),
        (SOURCE + MORE, "", ["name the class", "it holds Own, Other"]),
        ("x = 1\n", "", ["no class that derives from Method"]),
        (SOURCE + "\ndef broken(:\n", "Own", [", line 17", "SyntaxError"]),
        ("import nowhere_at_all\n" + SOURCE, "Own", [", line 1", "ModuleNotFoundError", "nowhere_at_all"]),
        ("import sys\nsys.exit(3)\n", "Own", [", line 2", "SystemExit"]),
        (SOURCE.replace(SIGNATURE, "task: Task, *, weight: float"), "Own", [", line 7", "'weight' needs a default"]),
        (SOURCE.replace(SIGNATURE, "task: Task, *, weight=1.0"), "Own", [", line 7", "'weight' needs a type"]),
        (SOURCE.replace(SIGNATURE, "task: Task, *weight"), "Own", ["'*weight' can be neither set nor recorded"]),
        (SOURCE.replace(SIGNATURE, "task: Task, **weight: float"), "Own", ["'**weight' can be neither set"]),
        (SOURCE.replace(SIGNATURE, "task: Task, weight: float = 1.0"), "Own", ["must be keyword-only"]),
        (SOURCE.replace(SIGNATURE, "*, weight: float = 1.0"), "Own", ["must take the task first"]),
        (SOURCE.replace(SIGNATURE, "task: Task, *, weight: float = 'x'"), "Own", ["default of weight must be float"]),
        ("from __future__ import annotations\n" + SOURCE.replace("weight: float", "weight: Weight"), "Own",
         ["Weight", "import what it names"]),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_says_where(source, name, words, here):
    path = here / "wrong.py"
    path.write_text(source)
    line = one_line_error(invoke("explain", "--method", f"{path}:{name}" if name else path, "--dataset", "synthetic"))
    for word in (str(path), *words):
        assert word in line


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """An installed package of somebody else's, with entry points that work and some that do not."""
    site = tmp_path / "site"
    (site / "abroad").mkdir(parents=True)
    (site / "abroad" / "__init__.py").write_text("raise RuntimeError('a list must not import this')\n")
    (site / "abroad" / "slow.py").write_text(SOURCE)
    (site / "abroad_fine.py").write_text(SOURCE)
    (site / "abroad_wrong.py").write_text("def broken(:\n")
    (site / "abroad_tiles.py").write_text(textwrap.dedent("""
        from benchmark.data.datasets.synthetic import Synthetic

        class Tiles(Synthetic):
            '''Tiles from abroad.'''
    """))
    information = site / "abroad-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: abroad\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text(textwrap.dedent("""
        [semihisto.methods]
        fine = abroad_fine:Own
        gone = abroad_gone:Own
        wrong = abroad_wrong:Own
        nobody = abroad_fine:Absent
        no_method = abroad_fine:Task
        packaged = abroad.slow:Own
        supervised = abroad_fine:Own

        [semihisto.datasets]
        tiles = abroad_tiles:Tiles
    """))
    monkeypatch.syspath_prepend(site)
    return site


def test_the_list_shows_what_is_installed_and_a_broken_one_is_one_line(packages):
    environment = os.environ | {"PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
    listed = command("list", "methods", "--json", env=environment)
    assert listed.returncode == 0, listed.stderr
    rows = {row["name"]: row for row in json.loads(listed.stdout) if row.get("from")}
    assert {row["from"] for row in rows.values()} == {"abroad 1.2"}
    about = {name: row["about"] for name, row in rows.items()}
    assert about["fine"] == about["packaged"] == "Nobody 2026: supervised learning under another name."
    assert "broken: no module abroad_gone" in about["gone"] and about["wrong"].startswith("broken: ")
    assert "abroad_fine has no class Absent" in about["nobody"] and "hidden by the built-in" in about["supervised"]
    text = invoke("list", "datasets").stdout
    assert "Tiles from abroad. [abroad 1.2]" in text
    assert len(text.splitlines()) == len(DATASETS.names()) + len(COLLECTIONS) + 1


def test_an_installed_method_and_data_set_run_by_name(packages, here):
    record = json.loads(run("fine").stdout)
    assert record["run_id"].startswith("fine-") and record["numerics"]["source"]
    assert code_versions("fine", load_dataset("tiles"))["dataset"] == DATASETS.load("synthetic").version
    assert DATASETS.load("tiles").__name__ == "Tiles"
    line = one_line_error(invoke("run", "--method", "fine", "--dataset", "tiles", "--preset", "demo"))
    assert "'python -m benchmark data split tiles --write'" in line
    assert METHODS.load("supervised").__module__ == "methods.supervised"  # a name of ours is ours


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone", ["abroad 1.2", "abroad_gone:Own", "ModuleNotFoundError"]), ("nobody", ["AttributeError"]),
     ("no_method", ["not derive from Method"]), ("fnie", ["Did you mean 'fine'?"])],
)
def test_a_broken_entry_point_is_one_line_when_it_is_asked_for(packages, name, words):
    with refused(*words):
        specify(Request(name, "synthetic", preset="demo"), "cpu")
