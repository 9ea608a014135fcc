"""The slice on real glands; skipped where the images are not at hand."""

import json

import pytest

from benchmark.registry import METHODS
from tests.conftest import invoke

pytestmark = [pytest.mark.glas, pytest.mark.slow]


@pytest.mark.parametrize("method", METHODS.names())
def test_a_short_run_on_real_glands(method, real_glas, tmp_path):
    """32 steps, far too few for a score; the whole path from released files to a record, and a loss that falls."""
    settings: dict[str, object] = {
        "data.size": 64, "train.steps": 32, "train.batch_labelled": 2, "train.batch_unlabelled": 2, "evaluate.times": 2,
        "optimiser.lr": 2e-3,
    }
    if method == "semimoe":
        settings["method.loss"] = "linear"  # the adaptive weights may rise faster than the losses fall
    if method == "bcp":
        settings["method.pretrain"] = 0  # one phase, whose losses can be compared
    if method == "weak_teacher_student":
        settings |= {"method.alpha": 1, "method.alpha_end": 1}  # else the supervised term's weight falls
    pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    result = invoke(
        "run", "--method", method, "--dataset", "glas", "--preset", "quick", "--ratio", "20", "--data", real_glas,
        "--results", tmp_path, "--json", *pairs,
    )
    record = json.loads(result.stdout)
    counts = {name: record["data"][name] for name in ("labelled", "unlabelled", "validation", "test")}
    assert counts == {"labelled": 17, "unlabelled": 68, "validation": 17, "test": 80}
    first, last = record["history"][0], record["history"][-1]
    learned = [name for name in first if name.split("/")[0] == "supervised"]
    assert learned and sum(last[name] for name in learned) < sum(first[name] for name in learned)
    assert record["scores"]["strict"]["n"] == 80
