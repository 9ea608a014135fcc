"""More than two classes: counts of each against the rest, scores, masks, and every method that takes them."""

import numpy as np
import pytest
import torch
from sklearn.metrics import multilabel_confusion_matrix

from benchmark import protocols
from benchmark.cli.models import _table
from benchmark.conformance.checks import MethodTestbed, advance
from benchmark.data.dataset import Tile
from benchmark.data.load import prepare_arrays
from benchmark.data.splits import Split
from benchmark.errors import NotApplicable
from benchmark.metrics.counts import class_confusion, dice, jaccard, over_classes
from benchmark.metrics.torch_counts import class_counts
from benchmark.profiling.profile import Nowhere
from benchmark.registry import METHODS
from benchmark.report.gather import group_runs
from benchmark.report.tables import class_table
from benchmark.runs.request import Request, specify
from benchmark.runs.run_files import RunFolder, load_masks
from benchmark.training.stitch import class_map
from benchmark.training.trainer import train
from tests.conftest import TINY
from tests.own_folder import Generated

NAMES = ("background", "gland", "tumour")
IDS = tuple(f"image{number}" for number in range(9))


def drawn(number):
    """Image uint8 [H, W, 3] and class indices [H, W], 255 in a corner; the last image has no tumour."""
    rows, columns = np.mgrid[:40, :48]
    mask = np.zeros((40, 48), np.uint8)
    mask[(rows - 20) ** 2 + (columns - 12 - number) ** 2 < 90] = 1
    if number < len(IDS) - 1:
        mask[(rows - 12 - number) ** 2 + (columns - 36) ** 2 < 40] = 2
    image = np.array([(230, 210, 225), (150, 90, 160), (90, 40, 120)], np.uint8)[mask]
    mask[:6, :6] = 255
    return image + np.uint8(number), mask


PICTURES = {name: drawn(number) for number, name in enumerate(IDS)}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    raw, prepared = (tmp_path_factory.mktemp(name) for name in ("raw", "prepared"))
    return prepare_arrays(Generated(NAMES, PICTURES), TINY["data.size"], raw, prepared)


def bench(prepared, method="supervised", **settings):
    """The method on these images: two labelled, four unlabelled (two of them for validation), three to test."""
    spec, *_ = specify(Request(method, "synthetic", preset="demo", overrides=TINY | settings), "cpu")
    split = Split("made", 20, 0, IDS[:2], IDS[2:6], IDS[4:6], IDS[6:], "0" * 64)
    return MethodTestbed(spec, prepared, split, torch.device("cpu"))


@pytest.fixture(scope="module")
def outcome(three):
    return train(bench(three).build(), Nowhere())


def test_counts_equal_those_of_an_independent_library():
    random = np.random.default_rng(5)
    prediction, mask = random.integers(0, 4, (3, 20, 22)), random.choice([0, 1, 2, 3, 255], (3, 20, 22))
    counted = class_counts(torch.from_numpy(prediction), torch.from_numpy(mask.astype(np.uint8)), 4).numpy()
    for found, truth, ours in zip(prediction, mask, counted, strict=True):
        valid = truth != 255
        theirs = multilabel_confusion_matrix(truth[valid], found[valid], labels=[1, 2, 3])
        wanted = np.stack((theirs[:, 1, 1], theirs[:, 0, 1], theirs[:, 1, 0]), -1)
        np.testing.assert_array_equal(ours, wanted)
        np.testing.assert_array_equal(class_confusion(found, truth, 4), wanted)


def test_a_mean_over_classes_leaves_out_what_is_undefined():
    values = np.array([[0.5, np.nan], [np.nan, np.nan], [0.2, 0.4]])
    np.testing.assert_allclose(over_classes(values), [0.5, np.nan, 0.3])


def test_a_run_counts_every_class_and_scores_their_mean(three, outcome):
    counts = outcome.counts
    assert outcome.status == "done" and counts["classes"].tolist() == ["gland", "tumour"]
    assert counts["test_native"].shape == (3, 1, 2, 3) and counts["test_pooled_classes"].shape == (2, 1, 2, 3)
    assert "test_pooled" not in counts and "thresholds" not in counts
    for place, name in enumerate(IDS[6:]):
        truth, found = three.native_classes(name), outcome.masks[name]
        np.testing.assert_array_equal(counts["test_native"][place, 0], class_confusion(found, truth, 3))
    scores = protocols.scores(counts)
    each = dice(counts["test_native"][:, 0])
    assert scores["strict"]["dice"] == pytest.approx(np.nanmean(np.nanmean(each, 1)))
    assert scores["strict"]["classes"]["gland"]["dice"] == pytest.approx(np.nanmean(each[:, 0]))
    assert scores["paper"]["dice"] is None and scores["paper"]["reason"] == protocols.TWO_CLASSES


def test_a_class_that_is_neither_there_nor_predicted_is_left_out(outcome):
    counts = {name: np.array(array) for name, array in outcome.counts.items()}
    counts["test_native"][2, 0, 1] = 0
    strict = protocols.scores(counts)["strict"]
    assert strict["classes"]["tumour"]["n"] <= 2 and strict["undefined"] == 0
    gland = dice(counts["test_native"][2, 0, 0])
    assert protocols.per_image(counts, dice)[2] == pytest.approx(float(gland))


def test_validation_takes_the_step_that_is_best_on_validation_images(outcome):
    counts = {name: np.array(array) for name, array in outcome.counts.items()}
    counts["validation_pooled_classes"][0, 0] = [[10, 0, 0], [10, 0, 0]]  # perfect at the first evaluation
    found = protocols.scores(counts)["validation"]
    assert found["step"] == counts["steps"][0] and found["threshold"] is None
    assert found["jaccard"] == pytest.approx(np.mean(jaccard(counts["test_pooled_classes"][0, 0])))


def test_object_scores_are_of_each_class(three):
    training = bench(three, **{"evaluate.objects": True}).build()
    found = train(training, Nowhere())
    assert found.counts["test_objects"].shape == (3, 2, 3) and found.counts["test_surface"].shape == (3, 2, 2)
    strict = protocols.scores(found.counts)["strict"]
    assert strict["object_f1"] is not None and strict["hd95_excluded"] + 1 > 0


def test_masks_of_several_classes_come_back_as_they_were(three, outcome, tmp_path):
    folder = RunFolder(tmp_path, bench(three).spec)
    with folder.locked():
        folder.save_masks(outcome.masks)
    stored = load_masks(folder.path / "masks.npz")
    for name, mask in outcome.masks.items():
        assert stored[name].dtype == np.uint8
        np.testing.assert_array_equal(stored[name], mask)


def test_the_report_has_a_score_for_each_class(three, outcome):
    spec = bench(three).spec
    record = {
        "run_id": spec.run_id, "status": "done", "spec": spec.to_json(), "data": {"fingerprint": three.fingerprint},
        "history": outcome.history, "cost": outcome.cost, "numerics": {"engine": 1}, "environment": {},
    }
    (group,) = group_runs([(record, outcome.counts)])
    table = class_table(group)
    assert list(table.header) == ["method", "labels", "gland", "tumour"]
    tumour = protocols.scores(outcome.counts)["strict"]["classes"]["tumour"]["dice"]
    assert table.rows[0][3] == f"{100 * tumour:.2f} (n=1)"


def test_a_cut_image_is_scored_once_on_its_tiles_put_together(tmp_path):
    """Two tiles by two of 28 px, which overlap, of images of 40 x 48 px."""
    dataset = Generated(NAMES, PICTURES)
    dataset.tile = Tile(size=28, overlap=8)
    cut = prepare_arrays(dataset, TINY["data.size"], tmp_path, tmp_path / "cut")
    assert len(cut.images) == 4 * len(IDS)
    training = bench(cut).build()
    assert [int(each) for each in training.planners["labelled"].positions] == [*range(8)]
    found = train(training, Nowhere())
    training.method.eval()
    for place, name in enumerate(IDS[6:]):
        (_, image, mask), *more = training.evaluator.images([name])
        assert not more and len(image) == 4
        logits = training.evaluator.logits(training.method, image)["prediction"]
        whole = class_map(logits, cut.boxes(name), (40, 48)).numpy()
        np.testing.assert_array_equal(found.masks[name], whole)
        wanted = class_confusion(whole, cut.native_classes(name), 3)
        np.testing.assert_array_equal(found.counts["test_native"][place, 0], wanted)
        tiles = class_counts(logits.argmax(1), mask, 3).sum(0)
        np.testing.assert_array_equal(found.counts["test_images_classes"][place, 0], tiles)


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_takes_three_classes_or_says_why_not(three, method):
    try:
        training = bench(three, method).build()
    except NotApplicable as reason:
        assert "two classes" in str(reason)
        return
    rows = advance(training, 0, 3)
    assert all(np.isfinite(value) for row in rows for value in row.values())
    training.method.eval()
    _, image, _ = next(training.evaluator.images(IDS[6:]))
    for logits in training.evaluator.logits(training.method, image).values():
        assert logits.shape[1] == 3


def test_evaluate_prints_the_classes_in_their_own_order():
    """A file of scores has its keys sorted, so the order must come from the model."""
    score = {"dice": 0.5, "n": 3}
    strict = score | {"classes": {"gland": score, "lumen": score, "stroma": score}}
    content = {"run_id": "run", "dataset": "own", "sets": "all", "groups": {}, "scores": {"strict": strict}}
    head = _table(content, ("background", "gland", "stroma", "lumen"))[1]
    assert head.split() == ["all", "gland", "stroma", "lumen"]
