"""Protocols against hand calculations on counts made by hand."""

import json
from typing import Any

import numpy as np
import pytest

from benchmark import protocols
from tests.made_records import THRESHOLDS, made_counts, native


def test_oracle_search_equals_a_calculation_from_the_raw_predictions() -> None:
    counts = made_counts(7)
    scores = protocols.scores(counts)

    def pooled_jaccard(found: np.ndarray, mask: np.ndarray) -> float:
        return (found & mask).sum() / (found | mask).sum()

    best: tuple[float, Any] = (-1, None)
    for e in range(3):
        for o in range(2):
            for threshold in THRESHOLDS:
                value = pooled_jaccard(counts["raw_test"][e, o] > threshold, counts["raw_test_mask"])
                best = max(best, (value, (counts["steps"][e], counts["outputs"][o], threshold)), key=lambda b: b[0])
    assert scores["paper"]["jaccard"] == pytest.approx(best[0], abs=1e-12)
    assert scores["paper"]["dice"] == pytest.approx(2 * best[0] / (1 + best[0]), abs=1e-12)
    assert (scores["paper"]["step"], scores["paper"]["output"]) == best[1][:2]
    assert scores["paper"]["threshold"] == pytest.approx(best[1][2], abs=1e-6)

    best = (-1, None)
    for e in range(3):
        for threshold in THRESHOLDS:
            value = pooled_jaccard(counts["raw_validation"][e, 0] > threshold, counts["raw_validation_mask"])
            best = max(best, (value, (e, threshold)), key=lambda b: b[0])
    e, threshold = best[1]
    expected = pooled_jaccard(counts["raw_test"][e, 0] > threshold, counts["raw_test_mask"])
    assert scores["validation"]["jaccard"] == pytest.approx(expected, abs=1e-12)
    assert scores["validation"]["step"] == counts["steps"][e]

    found, mask = counts["raw_test"][-1, 0] > 0.45, counts["raw_test_mask"]
    each = [2 * (f & m).sum() / (f.sum() + m.sum()) for f, m in zip(found, mask, strict=True)]
    assert scores["strict"]["dice"] == pytest.approx(np.mean(each), abs=1e-12)
    json.dumps(scores, allow_nan=False)


def test_undefined_dice_is_excluded_and_counted() -> None:
    scores = protocols.scores(native((8, 2, 2), (0, 0, 0), (0, 3, 0)))
    means = {"dice": 0.4, "jaccard": 1 / 3, "precision": 0.4, "recall": 0.8}  # nothing to find: no recall
    assert scores["strict"] == pytest.approx({**means, "n": 3, "undefined": 1})
    empty = native((0, 0, 0), (0, 0, 0))
    empty["test_pooled"] = np.zeros_like(empty["test_pooled"])
    scores = protocols.scores(empty)
    assert scores["strict"]["dice"] is None and scores["paper"]["dice"] is None and scores["paper"]["reason"]
    json.dumps(scores, allow_nan=False)
    assert protocols.waterfall(empty) is None


@pytest.mark.parametrize("seed", range(5))
def test_waterfall_leads_from_paper_to_strict(seed: int) -> None:
    counts = made_counts(seed)
    stages, scores = protocols.waterfall(counts), protocols.scores(counts)
    assert stages and tuple(stages) == protocols.STAGES
    dice = list(stages.values())
    assert dice[0] == scores["paper"]["dice"] and dice[-1] == scores["strict"]["dice"]
    assert dice[:4] == sorted(dice[:4], reverse=True)  # each takes a choice away from a maximum
