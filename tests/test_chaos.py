"""A small battle; `python -m tools.kill_test` fights the large ones."""

import pytest

from tools.kill_test import battle

pytestmark = pytest.mark.kill


@pytest.mark.parametrize("grids", [1, 2])
def test_killed_workers_cost_time_and_nothing_else(tmp_path, grids):
    found = battle(tmp_path, runs=10, workers=2, seconds=10, grids=grids)
    assert found.kills >= 2
