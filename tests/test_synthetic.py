"""The generated data set: stable, varied, and not solvable by colour alone."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, stats

from benchmark.data.dataset import Item
from benchmark.data.datasets._synthetic_layout import GRADES, Stream
from benchmark.data.datasets.synthetic import Synthetic, draw

# All is float64 until the end: a last digit that differs between machines hardly ever moves a pixel.
MASKS = "460b01433c754ce6"
# Of the quarters of the second image, red, green and blue.
MEANS = [158.0, 108.0, 160.3, 142.8, 96.7, 149.7, 157.3, 105.7, 158.5, 137.2, 89.7, 144.4]
ITEMS = list(Synthetic().items(Path("no-such-folder")))
Sample = list[tuple[Item, np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def sample() -> Sample:
    """16 images: each of 16 patients once, both grades, both sets."""
    return [(item, item.image(), item.mask()) for item in (*ITEMS[:10], *ITEMS[60:66])]


def test_golden(sample: Sample):
    digest = hashlib.sha256(b"".join(mask.tobytes() for _, _, mask in sample[:4]))
    assert digest.hexdigest()[:16] == MASKS, "the generator draws something else: bump VERSION"
    quarters = sample[1][1].reshape(2, 96, 2, 128, 3).mean((1, 3)).ravel()
    np.testing.assert_allclose(quarters, MEANS, atol=0.2)


def test_seeds_and_numbers_differ_and_a_callers_change_reaches_no_other(sample: Sample):
    _, image, mask = sample[0]
    for other in (draw(1, 0, 0, "benign"), draw(0, 84, 0, "benign")):
        assert (other[0] != image).mean() > 0.9 and (other[1] != mask).mean() > 0.2
    ITEMS[0].image()[:] = 0
    assert np.array_equal(ITEMS[0].image(), image) and np.array_equal(ITEMS[0].mask(), mask)


def test_shapes_ids_and_foreground(sample: Sample):
    for item, image, mask in sample:
        assert image.shape == (192, 256, 3) and image.dtype == np.uint8
        assert mask.shape == (192, 256) and mask.dtype == np.uint8
        assert np.array_equal(np.unique(mask), np.arange(mask.max() + 1)), item.id
        assert 3 <= mask.max() <= 40 and 0.2 < (mask > 0).mean() < 0.65, item.id
    share = np.mean([(mask > 0).mean() for _, _, mask in sample])
    assert 0.55 < 2 * share / (1 + share) < 0.68  # the Dice of calling everything gland


def test_glands_are_whole_and_some_touch(sample: Sample):
    touching = 0
    for _, _, mask in sample:
        for number in range(1, mask.max() + 1):
            assert not (ndimage.binary_fill_holes(mask == number) & (mask == 0)).any()
        right, left = mask[:, 1:], mask[:, :-1]
        touching += int(((right != left) & (right > 0) & (left > 0)).any())
    assert touching >= len(sample) // 3


def test_grades_differ_in_number_and_shape_and_patients_in_stain(sample: Sample):
    def roundness(mask: np.ndarray) -> float:
        """Mean share of its bounding circle, about the centroid, that a gland away from the border fills."""
        filled = []
        for number in np.unique(mask[1:-1, 1:-1]):
            points = np.argwhere(mask == number)
            if number and points.min() > 0 and (points.max(0) < np.array(mask.shape) - 1).all():
                filled.append(len(points) / (np.pi * ((points - points.mean(0)) ** 2).sum(1).max()))
        return float(np.mean(filled)) if filled else np.nan

    benign, malignant = ([mask for item, _, mask in sample if item.groups["grade"] == grade] for grade in GRADES)
    assert np.mean([mask.max() for mask in benign]) > 1.2 * np.mean([mask.max() for mask in malignant])
    assert np.nanmean([roundness(mask) for mask in benign]) > np.nanmean([roundness(mask) for mask in malignant]) + 0.1
    assert (np.array([image.mean((0, 1)) for _, image, _ in sample]).std(0) > 8).all()


def test_no_channel_threshold_solves_it(sample: Sample):
    images = np.stack([image for _, image, _ in sample]).astype(float)
    truth = np.stack([mask > 0 for _, _, mask in sample])
    channels = [*np.moveaxis(images, -1, 0), images.mean(-1), images.max(-1) - images.min(-1)]
    channels += [ndimage.gaussian_filter(channel, (0, 4, 4)) for channel in channels]
    best = 0.0
    for channel in channels:
        for level in np.quantile(channel, np.linspace(0, 1, 41)):
            for guess in (channel > level, channel <= level):
                best = max(best, 2 * (guess & truth).sum() / (guess.sum() + truth.sum()))
    assert best < 0.72  # a small U-Net with all labels: about 0.85 after 150 steps


def test_no_patient_is_in_both_sets():
    assert [item.id for item in ITEMS[:2]] == ["train_1", "train_2"] and ITEMS[-1].id == "test_24"
    train, test = ([item.groups for item in ITEMS if item.groups["set"] == name] for name in ("train", "test"))
    patients = [{groups["patient"] for groups in part} for part in (train, test)]
    assert not patients[0] & patients[1] and list(map(len, patients)) == [15, 6]
    for part, count in ((train, 60), (test, 24)):
        grades = [groups["grade"] for groups in part]
        assert len(grades) == count and 0.4 < grades.count("malignant") / count < 0.6


def test_stream():
    first, again, other = Stream("a", 1), Stream("a", 1), Stream("a", 2)
    values = first.uniform(shape=(20000,))
    assert np.array_equal(values, again.uniform(shape=(20000,)))
    assert not np.array_equal(values, other.uniform(shape=(20000,)))
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert stats.kstest(first.normal((20000,)), "norm").pvalue > 1e-3
    assert {first.integer(2, 5) for _ in range(100)} == {2, 3, 4}
    fields = np.stack([first.field((96, 128), 12.0) for _ in range(40)])
    assert abs(fields.mean()) < 0.1 and abs(fields.std() - 1) < 0.1
    assert np.abs(np.diff(fields, axis=1)).max() < 1.0
