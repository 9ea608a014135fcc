"""An installed wheel works on its own: its configs lie inside, results and prepared data elsewhere."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, tiny_settings

pytestmark = pytest.mark.slow
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of an installation, built from a copy so that the checkout stays as it is."""
    base = tmp_path_factory.mktemp("wheel")
    for name in ("benchmark", "methods", "configs"):
        shutil.copytree(ROOT / name, base / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, base / "source")
    for line in (["wheel", base / "source", "--no-deps", "--no-build-isolation", "-w", base / "dist"],
                 ["install", "--no-deps", "--no-index", "--no-compile", "--target", base / "site",
                  "--find-links", base / "dist", "semihisto"]):
        done = subprocess.run([*PIP, *line], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return base / "site"


def semihisto(site, folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SEMIHISTO_")}
    environment |= {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    line = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_a_wheel_lists_explains_and_runs_in_an_empty_folder_and_changes_nothing_of_itself(installed, tmp_path):
    before = sorted(installed.rglob("*"))
    for kind, name in (("methods", "mean_teacher"), ("presets", "fair"), ("experiments", "demo"),
                       ("splits", "synthetic/official")):
        assert name in semihisto(installed, tmp_path, "list", kind).stdout
    cell = ["--method", "supervised", "--dataset", "synthetic", "--preset", "demo", *tiny_settings(train__steps=2)]
    assert "preset demo" in semihisto(installed, tmp_path, "explain", *cell).stdout
    done = semihisto(installed, tmp_path, "run", *cell, "--json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "records" / f"{json.loads(done.stdout)['run_id']}.json").is_file()
    assert (tmp_path / "cache" / "semihisto" / "prepared" / "synthetic").is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"results", "cache"}
    assert sorted(installed.rglob("*")) == before


def test_without_its_configs_it_would_not(installed, tmp_path):
    """A negative control of the test above."""
    bare = shutil.copytree(installed, tmp_path / "bare")
    shutil.rmtree(bare / "benchmark" / "configs")
    assert "fair" not in semihisto(bare, tmp_path, "list", "presets").stdout
