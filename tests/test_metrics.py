"""Metrics against slow references and independent libraries."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from benchmark.metrics.counts import THRESHOLDS, class_confusion, dice, jaccard, precision, recall
from benchmark.metrics.objects import object_scores, surface_distances
from benchmark.metrics.torch_counts import threshold_counts


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def confusion(prediction: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """TP, FP and FN of two classes."""
    return class_confusion(prediction, mask, 2)[0]


def naive_counts(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[B, 45, 3] by the definition, one threshold after the other."""
    result = np.zeros((len(mask), len(THRESHOLDS), 3), dtype=np.int64)
    for image in range(len(mask)):
        valid = mask[image] != 255
        truth = mask[image][valid] != 0
        for row, threshold in enumerate(THRESHOLDS.astype(np.float32)):
            found = probability[image][valid].astype(np.float32) > threshold
            result[image, row] = (found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum()
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threshold_counts_equal_the_naive_loop(random: np.random.Generator, dtype: type) -> None:
    probability = random.random((4, 16, 18)).astype(dtype)
    probability[:, 0] = np.resize(THRESHOLDS, 18)  # exactly at thresholds: not above them
    probability[:, 1] = np.resize(THRESHOLDS[18:], 18)
    probability[:, 2] = np.resize(THRESHOLDS[36:], 18)
    probability[:, 3, :2] = 0, 1
    mask = random.choice([0, 1, 255], size=probability.shape, p=[0.5, 0.4, 0.1]).astype(np.uint8)
    mask[3] = 255
    counts = threshold_counts(torch.from_numpy(probability), torch.from_numpy(mask)).numpy()
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, naive_counts(probability, mask))
    assert not counts[3].any()


def test_nan_is_above_no_threshold() -> None:
    counts = threshold_counts(torch.full((1, 2, 2), torch.nan), torch.ones(1, 2, 2, dtype=torch.long))
    assert not counts[..., :2].any() and (counts[..., 2] == 4).all()


def test_confusion_and_scores_agree_with_scikit_learn(random: np.random.Generator) -> None:
    prediction = random.integers(0, 2, (20, 20)).astype(bool)
    mask = random.choice([0, 1, 255], (20, 20)).astype(np.uint8)
    counts = confusion(prediction, mask)
    found, truth = prediction[mask != 255], mask[mask != 255]
    assert dice(counts) == pytest.approx(f1_score(truth, found), abs=1e-12)
    assert jaccard(counts) == pytest.approx(jaccard_score(truth, found), abs=1e-12)
    assert precision(counts) == pytest.approx(precision_score(truth, found), abs=1e-12)
    assert recall(counts) == pytest.approx(recall_score(truth, found), abs=1e-12)


def test_empty_masks_are_undefined_only_when_both_are() -> None:
    empty, some = np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)
    assert np.isnan(dice(confusion(empty, empty))) and np.isnan(jaccard(confusion(empty, empty)))
    assert dice(confusion(some, empty)) == 0 == dice(confusion(empty, some))
    assert np.isnan(dice(confusion(some, np.where(some, 255, 0))))
    assert np.isnan(precision(confusion(empty, some))) and recall(confusion(empty, some)) == 0
    assert precision(confusion(some, empty)) == 0 and np.isnan(recall(confusion(some, empty)))
    assert dice([[1, 0, 0], [0, 0, 0]]).tolist()[0] == 1
    with pytest.raises(ValueError, match="shape"):
        confusion(empty, empty[:2])


def squares(*boxes: tuple[int, int, int, int], side: int = 24) -> np.ndarray:
    """Object ids [side, side] of boxes (top, left, bottom, right)."""
    ids = np.zeros((side, side), np.uint8)
    for number, (top, left, bottom, right) in enumerate(boxes, start=1):
        ids[top:bottom, left:right] = number
    return ids


def slow_object_scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """From the challenge's definitions, object by object, with all pairwise distances."""

    def objects(ids: np.ndarray) -> list[np.ndarray]:
        return [ids == number for number in np.unique(ids) if number]

    def hausdorff(a: np.ndarray, b: np.ndarray) -> float:
        distance = cdist(np.argwhere(a), np.argwhere(b))
        return float(max(distance.min(1).max(), distance.min(0).max()))

    def partner(one: np.ndarray, others: list[np.ndarray]) -> np.ndarray | None:
        best = max(others, key=lambda other: (one & other).sum())
        return best if (one & best).any() else None

    def one_way(first: list[np.ndarray], second: list[np.ndarray]) -> tuple[float, float]:
        area = sum(one.sum() for one in first)
        overlap = distance = 0.0
        for one in first:
            other = partner(one, second)
            if other is None:
                distance += one.sum() / area * min(hausdorff(one, candidate) for candidate in second)
            else:
                overlap += one.sum() / area * 2 * (one & other).sum() / (one.sum() + other.sum())
                distance += one.sum() / area * hausdorff(one, other)
        return overlap, distance

    found, true = objects(prediction), objects(truth)
    hits = 0
    for one in found:
        other = partner(one, true)
        hits += other is not None and bool((one & other).sum() / other.sum() > 0.5)
    precision, recall = hits / len(found), hits / len(true)
    there, back = one_way(found, true), one_way(true, found)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"f1": f1, "dice": (there[0] + back[0]) / 2, "hausdorff": (there[1] + back[1]) / 2}


TRUTH = squares((2, 2, 10, 10), (12, 4, 20, 20))
CASES = {
    "identical": (TRUTH, TRUTH),
    "other ids": (np.where(TRUTH == 1, 7, TRUTH), TRUTH),
    "split": (squares((2, 2, 10, 10), (12, 4, 20, 12), (12, 12, 20, 20)), TRUTH),
    "uneven split": (squares((2, 2, 10, 10), (12, 4, 20, 7), (12, 7, 20, 20)), TRUTH),
    "merge": (squares((2, 2, 20, 20)), TRUTH),
    "touching glands": (squares((2, 2, 10, 20)), squares((2, 2, 10, 9), (2, 9, 10, 20))),
    "exactly half": (squares((2, 2, 10, 6)), squares((2, 2, 10, 10))),
    "apart": (squares((0, 0, 3, 3), (20, 20, 23, 23)), TRUTH),
    "one missed": (squares((2, 2, 10, 10)), TRUTH),
    "invented": (squares((2, 2, 10, 10), (12, 4, 20, 20), (0, 20, 4, 24)), TRUTH),
}


@pytest.mark.parametrize("name", CASES)
def test_object_scores_agree_with_the_slow_reference(name: str) -> None:
    prediction, truth = CASES[name]
    assert object_scores(prediction, truth) == pytest.approx(slow_object_scores(prediction, truth), abs=1e-9)


def test_object_scores_agree_with_the_slow_reference_on_random_objects(random: np.random.Generator) -> None:
    for _ in range(15):
        prediction, truth = (
            squares(*((y, x, y + h, x + w) for y, x, h, w in random.integers(1, 12, (random.integers(1, 6), 4))))
            for _ in range(2)
        )
        assert object_scores(prediction, truth) == pytest.approx(slow_object_scores(prediction, truth), abs=1e-9)


def test_object_scores_by_hand() -> None:
    assert object_scores(TRUTH, TRUTH) == {"f1": 1, "dice": 1, "hausdorff": 0}
    assert object_scores(*CASES["split"])["f1"] == pytest.approx(2 * 1 / (3 + 2))  # neither half is more than half
    assert object_scores(*CASES["merge"])["f1"] == pytest.approx(2 * 1 / (1 + 2))
    assert object_scores(*CASES["exactly half"])["f1"] == 0
    shifted = object_scores(squares((2, 5, 10, 13)), squares((2, 2, 10, 10)))
    assert shifted == pytest.approx({"f1": 1, "dice": 5 / 8, "hausdorff": 3})


def test_object_scores_of_nothing() -> None:
    nothing = np.zeros_like(TRUTH)
    assert all(np.isnan(value) for value in object_scores(nothing, nothing).values())
    for scores in (object_scores(nothing, TRUTH), object_scores(TRUTH, nothing)):
        assert scores == {"f1": 0, "dice": 0, "hausdorff": np.inf}


def test_a_boolean_prediction_is_taken_apart_into_components() -> None:
    assert object_scores(TRUTH > 0, TRUTH) == {"f1": 1, "dice": 1, "hausdorff": 0}
    diagonal = np.array([[1, 0], [0, 1]], dtype=bool)  # neighbours by a corner are one object
    assert object_scores(diagonal, diagonal.astype(np.uint8))["f1"] == 1


def slow_surface_distances(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    def outline(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        return np.array(
            [
                (y, x)
                for y, x in np.argwhere(mask)
                if not all(padded[y + 1 + dy, x + 1 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))
            ]
        )

    distance = cdist(outline(prediction), outline(truth))
    there, back = distance.min(1), distance.min(0)
    return {"hd95": np.percentile(np.r_[there, back], 95), "asd": (there.mean() + back.mean()) / 2}


def test_surface_distances_agree_with_the_slow_reference(random: np.random.Generator) -> None:
    for _ in range(5):
        prediction, truth = random.random((2, 15, 17)) > 0.6
        expected = slow_surface_distances(prediction, truth)
        assert surface_distances(prediction, truth) == pytest.approx(expected, abs=1e-9)
    assert surface_distances(TRUTH > 0, TRUTH > 0) == {"hd95": 0, "asd": 0}
    assert np.isnan(surface_distances(TRUTH > 0, TRUTH < 0)["hd95"])
