"""Images too many for the device are streamed from their file: the same plans, the same batches, the same weights."""

import json

import numpy as np
import pytest
import torch

from benchmark.conformance.checks import CHECKS, advance, differences
from benchmark.training import data_placement
from tests.conftest import demo_run, invoke, one_line_error, tiny_settings
from tests.factories import method_testbed

pytestmark = pytest.mark.slow


@pytest.fixture
def no_room(monkeypatch):
    """A device that has room for nothing, from here on."""
    return lambda: monkeypatch.setenv("SEMIHISTO_RESIDENT", "0")


def test_a_block_brings_the_pixels_masks_and_targets_of_its_images():
    rng = np.random.default_rng(0)
    images, masks = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((9, 8, 8, 3), (9, 8, 8)))
    labelled = [7, 2, 5]
    sdf = rng.normal(size=(3, 1, 8, 8)).astype(np.float32)
    index = np.array([[5, 2], [7, 5], [2, 2]])
    fields = data_placement.StreamedImages(images, masks, labelled, {"sdf": sdf}).gather(index)
    assert {name: values.shape for name, values in fields.items()} == {"pixels": (3, 2, 8, 8), "sdf": (3, 2, 1, 8, 8)}
    four = fields["pixels"].view(np.uint8).reshape(3, 2, 8, 8, 4)
    np.testing.assert_array_equal(four[..., :3], images[index])
    np.testing.assert_array_equal(four[..., 3], masks[index])
    np.testing.assert_array_equal(fields["sdf"][1], sdf[[0, 2]])
    blind = data_placement.StreamedImages(images, None, [0, 1, 3], {}).gather(np.array([[3, 0]]))
    assert not blind["pixels"].view(np.uint8).reshape(-1, 4)[:, 3].any()


@pytest.mark.parametrize(("method", "more"), [
    ("supervised", {}), ("semimoe", {"augment__crop": 0.5}), ("mean_teacher", {"train__precision": "fp64"}),
])
def test_a_streamed_run_has_the_weights_of_a_resident_one(no_room, method, more):
    tried = method_testbed(method, train__steps=12, **more)
    resident = tried.build()
    no_room()
    streamed = tried.build()
    assert streamed.streams and not resident.streams
    rows, others = advance(resident, 0, 6), advance(streamed, 0, 6)
    assert rows == others
    assert not differences(resident.method.state_dict(), streamed.method.state_dict())


def test_a_streamed_run_holds_no_image_and_draws_the_same_plans(no_room):
    tried = method_testbed("semimoe", train__steps=12)
    resident = tried.build()
    no_room()
    streamed = tried.build()
    for renderer in streamed.step.renderers.values():
        assert renderer.pixels.numel() == 0 and all(t.numel() == 0 for t in renderer.targets.values())
    for drawn, brought in zip(resident.plans(3, 2), streamed.plans(3, 2), strict=True):
        assert set(brought["labelled"]) - set(drawn["labelled"]) == {"pixels", "sdf", "boundary"}
        assert set(brought["unlabelled"]) - set(drawn["unlabelled"]) == {"pixels"}
        for stream, fields in drawn.items():
            assert all(torch.equal(values, brought[stream][name]) for name, values in fields.items())


def test_a_streamed_run_keeps_the_contract(no_room):
    no_room()
    testbed = method_testbed("semimoe")
    for check in ("resumes_exactly", "hidden_masks_and_test_images_are_unused", "step_can_be_captured"):
        CHECKS[check](testbed)


def test_what_streams_is_decided_by_the_share_of_the_device(monkeypatch):
    tried = method_testbed("semimoe")
    method, prepared, device = tried.build().method, tried.prepared, tried.device
    needed = len(prepared.ids) * 32 * 32 * 4 * (2 + 2)  # two streams, two targets
    monkeypatch.setattr("benchmark.training.device.memory", lambda _: 4 * needed)
    assert data_placement.why_streamed(prepared, method, device) == ""  # a quarter, and not more
    monkeypatch.setattr("benchmark.training.device.memory", lambda _: 4 * needed - 4)
    assert str(prepared.folder) in data_placement.why_streamed(prepared, method, device)
    monkeypatch.setenv("SEMIHISTO_RESIDENT", "1")
    assert data_placement.why_streamed(prepared, method, device) == ""


def test_a_run_says_that_it_streams_and_is_the_same_run(no_room, tmp_path):
    resident = json.loads(demo_run(tmp_path / "resident", "mean_teacher", "--json").stdout)
    no_room()
    told = demo_run(tmp_path / "streamed", "mean_teacher", "--json")
    streamed = json.loads(told.stdout)
    assert "are streamed from" in told.stderr
    assert streamed["run_id"] == resident["run_id"] and streamed["weights_sha256"] == resident["weights_sha256"]


def test_a_share_that_is_none_is_refused(monkeypatch):
    line = ["profile", "--method", "supervised", "--preset", "demo", "--count-only", *tiny_settings()]
    for text in ("half", "1.5", "-1", "nan"):
        monkeypatch.setenv("SEMIHISTO_RESIDENT", text)
        assert "SEMIHISTO_RESIDENT" in one_line_error(invoke(*line))


def test_a_resident_run_holds_the_masks_of_labelled_images_alone():
    tried = method_testbed("supervised")
    known = sorted(tried.prepared.position(name) for name in tried.split.labelled)
    shown = data_placement.visible(tried.prepared.masks.shape, tried.prepared.masks, known)
    assert np.array_equal(shown[known], tried.prepared.masks[known])
    assert (np.delete(shown, known, axis=0) == 255).all()
