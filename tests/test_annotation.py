"""Sparse annotation: what is drawn, by hand in NumPy; and that no method learns anything from what is not."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.config.schema import Labels
from benchmark.conformance.testbed import STEPS, advance, differences
from benchmark.data import annotation
from benchmark.data.annotation import annotate, cores, drawn, gland_order, scribbles, share_of
from benchmark.data.load import load_prepared
from benchmark.errors import UserError
from benchmark.losses import IGNORE
from benchmark.paths import CONFIGS
from benchmark.registry import METHODS
from benchmark.runs.request import Request, specify
from tests.conftest import invoke, one_line_error, read_records, tiny_settings
from tests.factories import method_testbed
from tests.own_folder import write_folder
from tools import annotation_lists

SPARSE = {"labels.glands": 0.3}
QUICK = ("supervised", "dtc", "st_plus_plus", "bcp", "weak_teacher_student")  # in the quick tier


@pytest.fixture(scope="module")
def prepared():
    return load_prepared("synthetic", 32)


class Images:
    """Two images as `annotate` needs them: 8 x 8 pixels, with three glands and with none; pixel (0, 7) unknown."""

    name, size = "made", 8
    ids = ("three", "none")

    def __init__(self):
        glands = np.zeros((8, 8), np.uint8)
        glands[0:2, 0:2], glands[4:7, 0:3], glands[3:8, 6:8] = 4, 1, 7  # 4, 9 and 10 pixels
        self._native = {"three": glands, "none": np.zeros((8, 8), np.uint8)}
        self.masks = np.stack([(self._native[name] > 0).astype(np.uint8) for name in self.ids])
        self.masks[:, 0, 7] = IGNORE

    def native(self, name): return self._native[name]
    def native_valid(self, name): return self.masks[self.ids.index(name)] != IGNORE
    def rows(self, name): return range(self.ids.index(name), self.ids.index(name) + 1)
    def boxes(self, name): return ((0, 0, 8, 8),)


@pytest.mark.parametrize(("background", "kept"), [("unknown", 0), ("trusted", 64 - 23 - 1)])
def test_what_is_drawn_counted_by_hand(background, kept):
    images = Images()
    found = annotate(images, images.ids, Labels(0.5, background), 0)
    first, second, third = gland_order([1, 4, 7], "three", 0)
    assert sorted([first, second, third]) == [1, 4, 7] and share_of(3, 0.5) == 2
    sizes = {4: 4, 1: 9, 7: 10}
    mask = found.masks[0]
    assert (mask == 1).sum() == sizes[first] + sizes[second] and (mask == 0).sum() == kept
    assert (mask[images.native("three") == third] == IGNORE).all() and mask[0, 7] == IGNORE
    empty = (found.masks[1] == 0).sum()
    assert empty == (63 if background == "trusted" else 0)
    assert (found.facts["glands"], found.facts["of"]) == (2, 3)
    assert found.facts["pixels"] == pytest.approx((sizes[first] + sizes[second] + kept + empty) / 128)


def test_of_a_tiled_image_every_tile_shows_its_part():
    class Tiled(Images):
        def rows(self, name): return range(2)
        def boxes(self, name): return ((0, 0, 4, 8), (4, 0, 4, 8))

    whole, tiled = Images(), Tiled()
    tiled.masks = whole.masks[0].reshape(2, 4, 8).repeat(2, axis=1)
    tiled.native_valid = whole.native_valid
    expected = annotate(whole, ("three",), Labels(0.5, "trusted"), 0).masks[0]
    found = annotate(tiled, ("three",), Labels(0.5, "trusted"), 0).masks
    assert np.array_equal(np.concatenate([found[0], found[1]])[::2], expected)


def test_an_annotation_follows_from_image_and_draw_alone(prepared):
    ids = prepared.ids[:6]
    first, again = (annotate.__wrapped__(prepared, ids, Labels(0.3), 0) for _ in range(2))
    assert first.facts == again.facts
    alone = annotate.__wrapped__(prepared, ids[3:4], Labels(0.3), 0)
    assert np.array_equal(alone.masks[3], first.masks[3])
    assert annotate.__wrapped__(prepared, ids, Labels(0.3), 1).facts["sha256"] != first.facts["sha256"]
    shares = [set(drawn(prepared, ids[0], Labels(share), 0)[1]) for share in (0.1, 0.3, 0.6, 1.0)]
    assert all(small <= large for small, large in itertools.pairwise(shares))
    assert len(shares[-1]) == len(np.unique(prepared.native(ids[0]))) - 1
    assert annotate(prepared, ids, Labels(), 0) is None


def test_a_mask_is_the_whole_one_where_it_is_drawn_and_255_elsewhere(prepared):
    ids = prepared.ids[:4]
    found = annotate(prepared, ids, Labels(0.4, "scribbles"), 2)
    for row, name in enumerate(ids):
        known, chosen, glands = drawn(prepared, name, Labels(0.4, "scribbles"), 2)
        assert len(chosen) == max(1, int(0.4 * glands + 0.5))
        native = prepared.native(name)
        assert np.array_equal(known & (native > 0), np.isin(native, chosen))
        assert 0 < (known & (native == 0)).sum() < 0.5 * (native == 0).sum()
        small = np.asarray(Image.fromarray(known.astype(np.uint8)).resize((32, 32), Image.Resampling.NEAREST))
        assert np.array_equal(found.masks[row], np.where(small, prepared.masks[row], IGNORE))


def test_a_speck_is_no_gland_and_no_background():
    images = Images()
    large = np.zeros((160, 160), np.uint8)
    large[:40, :40], large[100, 100:103], large[50, 50:52] = 1, 2, 3  # 2.56 pixels are a ten-thousandth
    images.native, images.native_valid = lambda name: large, lambda name: np.ones(large.shape, bool)
    known, chosen, glands = drawn(images, "three", Labels(1.0, "trusted"), 0)
    assert sorted(chosen) == [1, 2] and glands == 2 and not known[50, 50:52].any() and known.sum() == large.size - 2


@pytest.mark.parametrize(("count", "share", "expected"), [
    (0, 0.5, 0), (1, 0.01, 1), (1, 1.0, 1), (5, 0.1, 1), (5, 0.5, 3), (8, 0.25, 2), (9, 1.0, 9),
])  # fmt: skip
def test_a_share_of_the_glands_is_one_at_least(count, share, expected):
    assert share_of(count, share) == expected


def test_a_core_is_what_lies_deeper_than_the_share():
    objects = np.zeros((12, 20), np.uint8)
    objects[1:10, 1:10], objects[3:6, 14:17] = 1, 2  # depths up to 5 and 2
    core = cores(objects, [1, 2], 0.5)
    expected = np.zeros_like(objects, bool)
    expected[3:8, 3:8], expected[4, 15] = True, True
    assert np.array_equal(core, expected)
    assert np.array_equal(cores(objects, [2], 0.0), objects == 2)
    assert cores(objects, [1, 2], 0.999).sum() == 2, "the deepest pixel stays"


def test_strokes_are_the_background_near_segments(monkeypatch):
    monkeypatch.setattr(annotation, "STROKE", 10)
    background = np.ones((40, 60), bool)
    background[10:20, 20:40] = False
    known = scribbles(background, 2, "image", 3)
    places, expected = np.argwhere(background), np.zeros_like(background)
    for ends in places[annotation.words(3, "scribbles/image", 0, 2, 2) % len(places)].astype(float):
        for y, x in np.argwhere(background):
            at = np.linspace(0, 1, 4001)[:, None] * (ends[1] - ends[0]) + ends[0]
            expected[y, x] |= ((at - (y, x)) ** 2).sum(1).min() <= 4 + 1e-3
    assert (known != expected).sum() <= 3 and known.sum() > 20 and not known[~background].any()
    assert not scribbles(np.zeros((9, 9), bool), 3, "image", 0).any()


def test_images_without_a_gland_have_background_alone_and_nothing_at_all_is_refused():
    images = Images()
    found = annotate(images, ("none",), Labels(0.5, "scribbles"), 0)
    assert found.facts["glands"] == found.facts["of"] == 0 and set(np.unique(found.masks[1])) == {0, IGNORE}
    with pytest.raises(UserError, match=r"labels.glands=0.5: nothing is annotated in the 1 labelled images of made"):
        annotate(images, ("none",), Labels(0.5, "unknown"), 0)


def test_every_training_image_is_in_both_streams():
    for ratio, labelled in ((20, 12), (100, 60)):
        run, dense = (specify(Request("supervised", "synthetic", ratio=ratio, overrides=more), "cpu")
                      for more in (SPARSE, {}))  # fmt: skip
        assert len(run.split.labelled) == labelled and len(run.split.unlabelled) == 60
        assert set(run.split.labelled) <= set(run.split.unlabelled) and run.split.labelled == dense.split.labelled
        assert run.split.fingerprint == dense.split.fingerprint and run.spec.run_id != dense.spec.run_id


@pytest.mark.parametrize("method", [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in METHODS.names()
])  # fmt: skip
def test_every_method_trains_on_it(method):
    """That it takes unknown pixels for no class is a check of the contract (unknown_pixels_are_no_class)."""
    training = method_testbed(method, **SPARSE).build_eager()
    before = {name: parameter.detach().clone() for name, parameter in training.method.named_parameters()}
    assert all(np.isfinite(list(row.values())).all() for row in advance(training, 0, STEPS))
    assert any(not torch.equal(before[name], now) for name, now in training.method.named_parameters())


@pytest.mark.parametrize("method", [
    "supervised", "dtc", *(pytest.param(name, marks=pytest.mark.slow) for name in (
        "semimoe", "bcp", "u2pl", "weak_teacher_student", "mpamatch"))
])  # fmt: skip
def test_masks_scrambled_where_nothing_is_drawn_change_no_weight(method):
    testbed = method_testbed(method, augment__crop=0.5, **SPARSE)
    before = testbed.final_state()
    scrambled = testbed.prepared.masks.copy()
    known = annotate(testbed.prepared, testbed.split.labelled, testbed.spec.section("labels"), 0).masks
    for row in range(len(scrambled)):
        hidden = known.get(row, np.full((32, 32), IGNORE)) == IGNORE
        scrambled[row] = np.where(hidden, 1 - scrambled[row], scrambled[row])
    assert not differences(before, testbed.final_state(dataclasses.replace(testbed.prepared, masks=scrambled)))


def test_a_run_says_what_is_annotated(tmp_path):
    run = ("run", "--method", "supervised", "--dataset", "synthetic", "--preset", "demo", "--results", tmp_path)
    told = invoke(*run, "--labels", "sparse:0.3", "--ratio", 100, *tiny_settings())
    assert told.returncode == 0 and "annotated: " in told.stdout
    ((record, _),) = read_records(tmp_path / "records")
    facts = record["data"]["annotation"]
    assert (facts["glands"], facts["of"]) == tuple(map(int, told.stdout.split("annotated: ")[1].split()[:3:2]))
    assert record["data"]["labelled"] == record["data"]["unlabelled"] == 60
    explain = ("explain", *run[1:7], "--labels", "sparse:0.3", "--ratio", 100, *tiny_settings())
    assert f"annotated: {facts['glands']} of {facts['of']} glands" in invoke(*explain).stdout
    assert json.loads(invoke(*explain, "--json").stdout)["labels.glands"]["annotated"] == {**facts, "images": 60}
    (tmp_path / "mine.yaml").write_text(json.dumps({
        "preset": "demo", "datasets": ["synthetic"], "ratios": [100], "rows": {
            "sparse": {"method": "supervised", "set": {"labels.glands": 0.3}}, "whole": "supervised"}}))
    plan = invoke("grid", tmp_path / "mine.yaml", "--dry-run", "--results", tmp_path / "other").stderr
    assert f"annotated in draw 0 at 100 %: {facts['glands']} of {facts['of']} glands" in plan
    assert plan.count("annotated") == 1
    report = invoke("report", "--results", tmp_path, "--format", "md,csv").stdout
    (table,) = (tmp_path / "tables").glob("*.csv")
    line = next(csv.DictReader(table.open()))
    assert float(line["annotated_glands"]) == pytest.approx(facts["glands"] / facts["of"], abs=1e-6)
    assert float(line["annotated_pixels"]) == pytest.approx(facts["pixels"], abs=1e-6)
    assert f"labels.glands=0.3 with background scribbles: {100 * facts['glands'] / facts['of']:.1f} %" in report


def test_the_committed_lists_follow_from_names_and_numbers_of_glands():
    for name, images_a_draw in (("glas", {85}), ("ebhi_gland", {204, 218, 246})):
        content = json.loads((CONFIGS / "annotations" / f"{name}.json").read_text())
        assert {*map(len, content["glands"].values())} == images_a_draw
        for draw, images in content["glands"].items():
            assert all(gland_order(sorted(order), name, int(draw)) == order for name, order in images.items())


@pytest.mark.glas
@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), [("glas", "real_glas"), ("ebhi_gland", "real_ebhi")])
def test_the_committed_lists_and_checksums_are_those_of_the_real_masks(name, folder, request):
    prepared = load_prepared(name, 64, raw=request.getfixturevalue(folder))
    made = annotation_lists.text(annotation_lists.lists(prepared))
    assert made == (CONFIGS / "annotations" / f"{name}.json").read_text()


@pytest.mark.parametrize("text", ["sparse:0", "sparse:1.5", "sparse:x", "sparse", "dense:0.5"])
def test_a_wrong_share_is_one_line(text):
    line = one_line_error(invoke("explain", "--method", "supervised", "--dataset", "synthetic", "--labels", text))
    assert f"not '{text}'" in line and "sparse:0.25" in line


def test_settings_that_do_not_go_together_are_one_line(tmp_path):
    folder = write_folder(tmp_path / "bare", bare=0, values=(0, 0, 0))
    (folder / "dataset.yaml").write_text("classes: [background, gland]\n")
    assert invoke("data", "split", folder, "--write", "--size", "32").returncode == 0
    sparse = ("--labels", "sparse:0.5")
    for given, words in (
        (("synthetic", "--set", "labels.erode=0.2"), "set labels.glands, too"),
        (("synthetic", "--set", "labels.glands=0"), "in (0, 1], not 0"),
        (("synthetic", *sparse, "--set", "labels.glands=0.1"), "give one of them"),
        ((folder, *sparse, "--set", "labels.background=unknown"), "nothing is annotated in the"),
    ):
        run = ("run", "--method", "supervised", "--preset", "demo", *tiny_settings(), "--results", tmp_path)
        assert words in one_line_error(invoke(*run, "--dataset", *given))
    assert "name a --split" in one_line_error(invoke("data", "preview", "synthetic", *sparse))
