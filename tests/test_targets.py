"""Boundary and signed distance against independent re-computations with SciPy and scikit-image."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter
from skimage.morphology import disk
from skimage.segmentation import find_boundaries
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.targets import IGNORE, TARGETS, _kinds, boundary, nearest, scaled, signed_distance


def blobs(count: int, height: int, width: int, seed: int = 0, sigma: float = 3.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(count, height, width))
    return gaussian_filter(noise, (0, sigma, sigma)) > 0.02


def by_tensor(mask: torch.Tensor) -> torch.Tensor:
    """What a GPU runs for `signed_distance`."""
    kinds = _kinds(mask)
    return scaled(nearest(kinds.flatten(0, 1)).view(kinds.shape), kinds)


def expected_distance(objects: np.ndarray) -> np.ndarray:
    if objects.all() or not objects.any():
        return np.full(objects.shape, 1.0 if objects.all() else -1.0)
    inside, outside = distance_transform_edt(objects), distance_transform_edt(~objects)
    scaled = [(d - d.min()) / (d.max() - d.min()) for d in (inside, outside)]
    result = scaled[0] - scaled[1]
    result[find_boundaries(objects, mode="inner")] = 0
    return result


CASES = [
    blobs(4, 40, 40),
    blobs(2, 17, 31, seed=1, sigma=1.0),
    np.zeros((1, 9, 9), bool),
    np.ones((1, 9, 9), bool),
    np.eye(12, dtype=bool)[None],
    np.pad(np.ones((1, 1, 1), bool), ((0, 0), (3, 8), (5, 0))),
    ~np.pad(np.ones((1, 1, 1), bool), ((0, 0), (3, 8), (5, 0))),
]


@pytest.mark.parametrize("objects", CASES)
def test_boundary_is_the_dilation_less_the_mask(objects: np.ndarray) -> None:
    expected = np.stack([binary_dilation(one, disk(2)) & ~one for one in objects])
    for dtype in (torch.uint8, torch.int64):
        ring = boundary(torch.from_numpy(objects).to(dtype))
        assert ring.dtype == torch.int64
        np.testing.assert_array_equal(ring.numpy(), expected)


@pytest.mark.parametrize("objects", CASES)
def test_signed_distance_on_the_cpu_and_in_tensor_code(objects: np.ndarray) -> None:
    expected = np.stack([expected_distance(one) for one in objects])[:, None].astype(np.float32)
    ours = signed_distance(torch.from_numpy(objects).long())
    assert ours.dtype == torch.float32 and ours.shape == (len(objects), 1, *objects.shape[1:])
    np.testing.assert_array_equal(ours.numpy(), expected)
    # what a GPU runs; the squared distances are whole numbers, but torch's root may differ in its last bit
    np.testing.assert_allclose(by_tensor(torch.from_numpy(objects).long()).numpy(), expected, atol=1e-7)


def test_the_tensor_transform_is_exact_also_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = torch.from_numpy(blobs(3, 30, 44, seed=5))
    monkeypatch.setattr("benchmark.targets.CHUNK", 7 * 44 * 44)
    expected = np.stack([distance_transform_edt(~one) for one in sources.numpy()])
    np.testing.assert_array_equal(nearest(sources).square().round().numpy(), (expected**2).round())
    np.testing.assert_allclose(nearest(sources).numpy(), expected, rtol=1e-15)
    assert torch.isinf(nearest(torch.zeros(1, 5, 5, dtype=torch.bool))).all()
    far = nearest((torch.arange(4096) == 0).expand(1, 1, -1))
    assert torch.equal(far[0, 0], torch.arange(4096, dtype=far.dtype)), "the largest working size"


def test_all_classes_but_background_are_objects() -> None:
    mask = torch.from_numpy(blobs(2, 24, 24)).long()
    several = mask * torch.randint(1, 5, mask.shape, generator=torch.Generator().manual_seed(0))
    for target in TARGETS.values():
        assert torch.equal(target(mask), target(several))


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_known_exactly_where_hidden_pixels_cannot_change_it(name: str) -> None:
    """On small masks every completion is tried: what is known is the same in all, and as much as possible is known."""
    target, generator = TARGETS[name], np.random.default_rng(0)
    known_anywhere = 0
    for trial in range(24):
        mask = torch.from_numpy(blobs(1, 9, 8, seed=trial, sigma=1.5)).long()
        places = torch.from_numpy(generator.choice(72, 5, replace=False))
        mask.view(-1)[places] = IGNORE
        completed = mask.repeat(32, 1, 1)
        completed.view(32, -1)[:, places] = torch.arange(32)[:, None] >> torch.arange(5) & 1
        every, found = (target(each).view(-1, 9, 8) for each in (completed, mask))
        hidden, equal = mask[0] == IGNORE, (every == every[0]).all(0)
        known = found[0] != IGNORE
        assert not known[hidden].any() and torch.equal(found[0][known], every[0][known])
        assert equal[known].all()
        if name == "boundary":
            assert torch.equal(known, equal & ~hidden)
        known_anywhere += int(known.sum())
        if name == "sdf":
            np.testing.assert_allclose(by_tensor(mask)[0, 0], found[0], atol=1e-7)
    assert 24 * 72 * 0.1 < known_anywhere < 24 * 72 * 0.9


def test_nothing_is_known_where_all_is_hidden_and_ignored_pixels_far_away_hide_nothing() -> None:
    for target in TARGETS.values():
        assert (target(torch.full((1, 4, 4), IGNORE)) == IGNORE).all()
    mask = torch.zeros(1, 24, 24, dtype=torch.int64)
    mask[:, 4:13, 4:13] = 1
    mask[:, 18:20, 18:20] = IGNORE  # too small and too far away to move any border or the largest distance inside
    values, inside = signed_distance(mask), mask == 1
    assert torch.equal(values[:, 0][inside], signed_distance(mask * (mask == 1))[:, 0][inside])


def test_targets_can_be_traced_and_need_no_gradient() -> None:
    with FakeTensorMode():
        mask = torch.zeros(2, 16, 16, dtype=torch.int64)
        assert signed_distance(mask).shape == (2, 1, 16, 16) and signed_distance(mask).dtype == torch.float32
        assert boundary(mask).shape == (2, 16, 16) and boundary(mask).dtype == torch.int64
        # the tensor code itself reads nothing back either
        assert by_tensor(mask).shape == (2, 1, 16, 16)
    logits = torch.randn(2, 2, 16, 16, requires_grad=True)
    assert not signed_distance(logits.argmax(1)).requires_grad


def test_the_operator_keeps_torchs_rules() -> None:
    torch.library.opcheck(torch.ops.semihisto.nearest.default, (torch.rand(2, 8, 8) > 0.5,))


@pytest.mark.parametrize("mask", [torch.zeros(4, 4, dtype=torch.int64), torch.zeros(1, 4, 4)])
def test_a_wrong_mask_is_refused(mask: torch.Tensor) -> None:
    for target in TARGETS.values():
        with pytest.raises(ValueError, match=r"a mask is \[B, H, W\]"):
            target(mask)
