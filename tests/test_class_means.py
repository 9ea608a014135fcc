"""Means over background and classes as a view on the counts, and what published pairs of Dice and Jaccard can be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmark import protocols
from benchmark.metrics.counts import class_confusion, dice, jaccard
from benchmark.report.published import kind_of_pair, pairs, read
from tests.conftest import ROOT, invoke, one_line_error

DRAWN = np.random.default_rng(3)


def by_hand(truths: list, found: list, classes: int) -> list[float]:
    """mDice and mIoU over the classes that are there or predicted: mean over images, then pooled."""
    def scores(pairs: list) -> tuple[float, float]:
        each = []
        for kind in range(classes):
            inter = sum(int(((t == kind) & (f == kind)).sum()) for t, f in pairs)
            sizes = sum(int((t == kind).sum() + ((f == kind) & (t != 255)).sum()) for t, f in pairs)
            if sizes:
                each.append((2 * inter / sizes, inter / (sizes - inter)))
        return tuple(np.mean(each, axis=0))

    images = [scores([pair]) for pair in zip(truths, found, strict=True)]
    return [*np.mean(images, axis=0), *scores(list(zip(truths, found, strict=True)))]


@pytest.mark.parametrize("classes", [2, 3])
def test_values_are_those_of_numpy_with_ignored_pixels_and_an_image_without_a_class(classes: int) -> None:
    truths = [DRAWN.integers(0, classes, (9, 11)) for _ in range(4)]
    truths[1][:] = 0
    truths[2][:3] = 255
    found = [np.where(DRAWN.random((9, 11)) < 0.7, t % 255, DRAWN.integers(0, classes, (9, 11))) for t in truths]
    found[1][:] = 0
    pairs_ = list(zip(found, truths, strict=True))
    native = np.array([class_confusion(f, t, classes) for f, t in pairs_])[:, None]
    counts = {"test_native": native if classes > 2 else native[:, :, 0],
              "test_pixels": np.array([(t != 255).sum() for t in truths])}
    if classes > 2:
        counts |= {"classes": np.array(["a", "b"])}
        assert {*protocols.class_means(counts).values()} == {None}  # does not follow from one against the rest
        counts |= {"test_background": np.concatenate([class_confusion(f, t, 1, first=0) for f, t in pairs_])}
    values = protocols.class_means(counts)
    assert list(values.values()) == pytest.approx(by_hand(truths, found, classes), abs=1e-12)
    assert all("with_background" in name for name in values) and values.keys().isdisjoint(protocols.strict(counts))
    del counts["test_pixels"]
    assert classes > 2 or {*protocols.class_means(counts).values()} == {None}


def test_committed_records_have_them_in_files_of_their_own_and_other_files_stay(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / "records", tmp_path / "records")
    command = ("report", "glas_light", "--results", tmp_path, "--format", "md,tex,csv", "--protocol", "class_means")
    assert invoke(*command).returncode == 0
    written = {path.name: path.read_text() for path in (tmp_path / "tables").iterdir()}
    assert {*written} == {"glas_light.csv", *(f"glas_light-class_means.{kind}" for kind in ("md", "tex", "csv"))}
    assert written["glas_light.csv"] == (ROOT / "results" / "tables" / "glas_light.csv").read_text()
    text = written["glas_light-class_means.md"]
    assert text.count("\n### ") == 1 and "| mDice, with background |" in text and "(1/3)" in text
    lines = written["glas_light-class_means.csv"].splitlines()
    assert lines[0].startswith("row,ratio,metric,mean,sd,n") and all("with_background" in line for line in lines[1:])
    assert "validation, paper, class_means" in one_line_error(invoke("report", "glas_light", "--protocol", "miou"))


def test_pairs_of_pooled_counts_and_of_means_are_told_apart_and_impossible_ones_seen() -> None:
    counts = np.stack([DRAWN.integers(400, 900, 60), *DRAWN.integers(20, 300, (2, 60))], -1)
    pooled = [round(100 * float(score(counts.sum(0))), 2) for score in (dice, jaccard)]
    means = [round(100 * float(score(counts).mean()), 2) for score in (dice, jaccard)]
    assert kind_of_pair(*pooled) == "pooled" and kind_of_pair(*means) == "means"
    assert kind_of_pair(pooled[0] + 0.1, pooled[1]) == "impossible" == kind_of_pair(89.10, 80.10, 1.52)
    draws = 0.75 + 0.05 * DRAWN.standard_normal(3)  # of pooled pairs the mean over draws lies below, by the spread
    both = 100 * float(np.mean(2 * draws / (1 + draws))), 100 * float(np.mean(draws))
    assert kind_of_pair(*both, 0.0) == "means" and kind_of_pair(*both, 100 * float(np.std(draws, ddof=1))) == "pooled"


def test_the_papers_pairs_are_sorted() -> None:
    found = pairs(read("table1").cells)
    assert {kind: len(rows) for kind, rows in found.items()} == {"pooled": 28, "means": 9, "impossible": 3}
    assert found["impossible"] == ["glas cct 10 %", "crag urpc 20 %", "crag cross_teaching 20 %"]
    assert "glas toposemiseg 20 %" in found["means"] and not pairs(read("table3").cells)
