"""Grids: several workers, a crash that costs one run, and nothing done twice."""

from __future__ import annotations

import json
import shlex

import pytest

from tests.conftest import invoke, one_line_error

EXPERIMENT = """about: A test.
preset: demo
datasets: [synthetic]
draws: [0, 1]
rows:
  plain: {method: supervised, set: &tiny {data.size: 32, train.steps: 4, train.batch_labelled: 2, evaluate.times: 1}}
  fragile: {method: "FRAGILE:Fragile", set: *tiny}
"""
FRAGILE = """
import os
from methods.supervised import Supervised

class Fragile(Supervised):
    '''Nobody 2026: falls over in the second draw.'''

    def losses(self, labelled, unlabelled, clock):
        if os.environ.get("FALL") and not os.path.exists(os.environ["FALL"]):
            open(os.environ["FALL"], "w").close()
            os._exit(9)
        return super().losses(labelled, unlabelled, clock)
"""


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "fragile.py").write_text(FRAGILE)
    path = tmp_path / "mine.yaml"
    path.write_text(EXPERIMENT.replace("FRAGILE", str(tmp_path / "fragile.py")))
    return path


def test_a_crash_costs_one_run_and_the_next_grid_makes_it_good(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("FALL", str(tmp_path / "fell"))
    dry = json.loads(invoke("grid", experiment, "--dry-run", "--results", tmp_path, "--json").stdout)
    assert dry["states"] == {"missing": 4} and not (tmp_path / "records").exists()
    first = invoke("grid", experiment, "--slots", 2, "--results", tmp_path, "--json")
    assert first.returncode == 3, first.stderr
    assert json.loads(first.stdout)["states"] == {"done": 3, "missing": 1}
    assert "crashed: its process ended with exit code 9" in first.stderr
    kept = {path.name: path.read_bytes() for path in (tmp_path / "records").glob("*.json")}
    second = invoke("grid", experiment, "--slots", 2, "--results", tmp_path, "--json")
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["states"] == {"done": 4}
    assert all((tmp_path / "records" / name).read_bytes() == content for name, content in kept.items())
    assert len(list((tmp_path / "records").glob("*.json"))) == 4
    # a grid's run is the run of its own command: same specification, same weights, whoever runs it
    cell = next(cell for cell in dry["cells"] if cell["row"] == "plain")
    alone = invoke(*shlex.split(cell["command"])[3:], "--results", tmp_path / "alone", "--json")
    record = json.loads((tmp_path / "records" / f"{cell['run_id']}.json").read_text())
    assert json.loads(alone.stdout)["weights_sha256"] == record["weights_sha256"]


def test_mistakes_are_one_line(experiment, tmp_path):
    assert "Did you mean 'demo'" in one_line_error(invoke("grid", "dmeo"))
    assert "--slots" in one_line_error(invoke("grid", "demo", "--slots", 0))
    assert "KEY=VALUE" in one_line_error(invoke("grid", "demo", "--only", "method"))
