"""Golden losses: a number that moves without a bump of `numerics`, or a bump without a reason, fails here."""

import json

import pytest

from benchmark.registry import METHODS
from tools.golden import FOLDER, losses


@pytest.mark.parametrize("method", METHODS.names())
def test_losses_are_the_golden_ones(method):
    golden, found = json.loads((FOLDER / f"{method}.json").read_text()), losses(method)
    assert found["numerics"] == golden["numerics"], "numerics was bumped: write golden losses anew and say why"
    for step, (old, new) in enumerate(zip(golden["losses"], found["losses"], strict=True), start=1):
        assert new == pytest.approx(old, rel=1e-6, abs=1e-12), f"step {step}: bump numerics if this is meant"


def test_there_is_no_golden_file_without_a_method():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(METHODS.names())
