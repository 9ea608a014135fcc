"""docs/your-method.md: every command of the page runs, in its order, and does what the page says."""

import json
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import torch

from benchmark.data.datasets.synthetic import Synthetic
from benchmark.data.load import load_prepared
from benchmark.ema import Teacher
from benchmark.registry import DATASETS, METHODS
from tests.conftest import ROOT, TINY, invoke

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "your-method.md").read_text(encoding="utf-8")
SMALLER = TINY | {"train.steps": 4, "evaluate.times": 1}
MORE = {
    "run": [part for key, value in SMALLER.items() for part in ("--set", f"{key}={value}")],
    "grid": ["--slots", "1"],
}
MORE["profile"] = MORE["run"]  # what makes a command of the page a matter of a second


def blocks(language):
    """The page's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def commands():
    """The page's commands as lists of words, all of them."""
    return [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder in which everything was done, and what each command said."""
    folder, said = tmp_path_factory.mktemp("yours"), {}
    (experiment,) = blocks("yaml")
    settings = ", ".join(f"{key}: {value}" for key, value in SMALLER.items())
    rows = re.sub(r"^(  \w+): (\S+)$", r"\1: {method: \2, set: {}}", experiment, flags=re.M)
    rows = rows.replace("set: {", f"set: {{{settings}, ").replace(", }", "}").replace("draws: [0, 1]", "draws: [0]")
    (folder / "mine.yaml").write_text(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("SEMIHISTO_RESULTS", raising=False)
        for words in commands():
            if words[2] == "pytest":
                line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words[3:]]
                result = subprocess.run(line, capture_output=True, text=True)
            else:
                result = invoke(*words[3:], *MORE.get(words[3], []))
            assert result.returncode == 0, (words, result.stdout, result.stderr)
            said[words[3] if words[2] == "benchmark" else "pytest"] = result.stdout
    return folder, said


def test_every_step_of_the_page_is_there(done):
    assert list(done[1]) == ["new", "check", "pytest", "explain", "run", "profile", "grid", "status", "report"]


def test_the_method_is_written_checked_and_tested(done):
    folder, said = done
    assert (folder / "my_method.py").is_file() and said["check"].splitlines()[-1].endswith("checks passed")
    assert "passed" in said["pytest"] and "failed" not in said["pytest"]


def test_it_runs_and_its_settings_and_costs_are_shown(done):
    folder, said = done
    assert "method.threshold" in said["explain"] and "strict" in said["run"] and "seconds_per_step" in said["profile"]
    records = [json.loads(path.read_text()) for path in (folder / "results" / "records").glob("mymethod-*.json")]
    assert 0.8 in {record["spec"]["values"]["method.threshold"] for record in records}


def test_the_table_has_it_between_its_lower_bound_and_another(done):
    folder, said = done
    assert said["grid"].strip() == said["status"].splitlines()[-1] == "4 done"
    table = (folder / "results" / "tables" / "mine.md").read_text()
    assert [row for row in ("supervised", "mean_teacher", "mine", "mine, surer") if f"| {row} |" in table] == [
        "supervised", "mean_teacher", "mine", "mine, surer"
    ]
    assert (folder / "results" / "pages" / "mine.html").is_file()


def test_the_package_of_the_page_is_found_by_its_entry_points(done, tmp_path, monkeypatch):
    """The stanza as it stands there, with the method and the data set of the page in the package."""
    folder, _ = done
    (stanza,), (*_, dataset) = blocks("toml"), blocks("python")
    package, information = tmp_path / "my_package", tmp_path / "my_package-1.0.dist-info"
    package.mkdir()
    information.mkdir()
    (package / "__init__.py").write_text("")
    (package / "my_method.py").write_text((folder / "my_method.py").read_text())
    (package / "my_slides.py").write_text(dataset)
    project = tomllib.loads(stanza)["project"]
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (information / "METADATA").write_text(metadata)
    groups = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
              for group, points in project["entry-points"].items()]
    (information / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(tmp_path)
    assert all("[my-package 1.0]" in invoke("list", kind).stdout for kind in ("methods", "datasets"))
    assert METHODS.load("my_method").__module__ == "my_package.my_method"
    write_tiles(tmp_path / "data" / "my_slides")
    prepared = load_prepared("my_slides", 32, raw=tmp_path / "data", root=tmp_path / "prepared")
    assert prepared.classes == ("background", "nucleus") and prepared.groups["set"] == ("test", "train", "train")
    assert prepared.groups["patient"] == ("c", "a", "b") and DATASETS.knows("my_slides")


def write_tiles(folder):
    """Three generated tiles in the layout that the page's data set reads."""
    from PIL import Image

    names = ("train-a", "train-b", "test-c")
    for name, item in zip(names, Synthetic().items(folder), strict=False):
        (folder / name).mkdir(parents=True)
        Image.fromarray(item.image()).save(folder / name / "image.png")
        Image.fromarray(item.mask().astype("uint16")).save(folder / name / "nuclei.png")


def test_a_decay_without_the_clock_is_refused_with_the_call_to_write():
    net = torch.nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"ema_update\(net, clock.ema\(0.99\)\)"):
        Teacher(net).ema_update(net, 0.99)
