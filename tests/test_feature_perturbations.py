"""The perturbations of features, each alone, against NumPy and SciPy."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from methods._cct_decoders import light_decoder
from methods._feature_perturbations import (
    components,
    context_mask,
    cutout,
    dropout,
    feature_drop,
    feature_noise,
    foreground,
    object_boxes,
    object_mask,
    vat,
)

EIGHT = np.ones((3, 3))


def feature(batch=3, width=5, side=6, seed=0):
    return torch.randn(batch, width, side, side, generator=torch.Generator().manual_seed(seed))


def drawn(shape, seed):
    """What `torch.rand` gives first after this seed, as NumPy."""
    torch.manual_seed(seed)
    return torch.rand(shape).numpy()


def masks(side, count=6, seed=0):
    """Random masks from sparse to dense."""
    chance = np.random.default_rng(seed)
    dense = np.linspace(0.1, 0.7, count)
    return torch.from_numpy(np.stack([chance.random((1, side, side)) < share for share in dense]))


def snake(side):
    """A path one pixel wide through every second row: the longest way from end to end."""
    mask = np.zeros((side, side), dtype=bool)
    mask[::2] = True
    for number, row in enumerate(range(1, side - 1, 2)):
        mask[row, -1 if number % 2 == 0 else 0] = True
    return mask


def test_noise_is_multiplicative_bounded_and_shared_over_the_batch():
    z = feature()
    u = 0.3 * (2 * drawn(z.shape[1:], 7) - 1)
    torch.manual_seed(7)
    found = feature_noise(z)
    np.testing.assert_allclose(found.numpy(), z.numpy() * (1 + u), rtol=1e-6)
    factor = (found / z).numpy()
    assert np.abs(factor - 1).max() <= 0.3 + 1e-5 and np.abs(factor - 1).max() > 0.25
    np.testing.assert_allclose(factor[0], factor[1], rtol=1e-5)


def test_feature_drop_zeroes_exactly_the_positions_above_the_threshold():
    z = feature().abs()
    g = 0.7 + 0.2 * drawn((), 3)
    torch.manual_seed(3)
    found = feature_drop(z).numpy()
    activity = z.numpy().mean(1)
    above = activity > g * activity.max((1, 2), keepdims=True)
    assert above.any((1, 2)).all() and not above.all((1, 2)).any()
    np.testing.assert_allclose(found, np.where(above[:, None], 0, z.numpy()))


def test_feature_drop_leaves_a_silent_feature_as_it_is():
    assert torch.equal(feature_drop(torch.zeros(2, 3, 4, 4)), torch.zeros(2, 3, 4, 4))
    negative = -torch.rand(2, 3, 4, 4) - 0.1
    assert torch.equal(feature_drop(negative), negative)


def test_dropout_takes_whole_channels_and_scales_the_others():
    torch.manual_seed(0)
    z = feature(width=400)
    ratio = (dropout(z) / z).flatten(2)
    assert torch.allclose(ratio.amax(2), ratio.amin(2), atol=1e-5)
    kept = ratio[..., 0] > 1
    assert torch.allclose(ratio[..., 0], 2.0 * kept, atol=1e-5)
    assert 0.45 < kept.float().mean() < 0.55


def test_foreground_is_every_class_but_the_first_and_carries_no_gradient():
    label = torch.tensor([[0, 1], [2, 0]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    logits = nn.functional.one_hot(label, 3).movedim(-1, 0)[None].float().requires_grad_()
    mask = foreground(logits, (2, 2))
    assert mask.tolist() == [[[[False, True], [True, False]]]] and not mask.requires_grad


def test_what_context_masking_and_object_masking_keep_adds_up_to_the_feature():
    z, mask = feature(), masks(6, 3)
    kept, rest = context_mask(z, mask), object_mask(z, mask)
    assert torch.equal(kept + rest, z)
    hidden = ~mask.expand_as(z)
    assert kept[hidden].abs().max() == 0 and torch.equal(kept[~hidden], z[~hidden])


@pytest.mark.parametrize("side", [1, 5, 6, 9, 16])
def test_components_are_those_of_scipy(side):
    mask = torch.cat([masks(side), torch.from_numpy(snake(side))[None, None], torch.ones(1, 1, side, side) > 0])
    found = components(mask).numpy()
    for mine, image in zip(found[:, 0], mask.numpy()[:, 0], strict=True):
        truth, count = ndimage.label(image, EIGHT)
        pairs = set(zip(mine.ravel().tolist(), truth.ravel().tolist(), strict=True))
        assert len(pairs) == len(set(mine.ravel())) == count + (not image.all())
        assert (0, 0) in pairs or image.all()


@pytest.mark.parametrize("side", [5, 8])
def test_boxes_are_those_of_scipy(side):
    mask = masks(side)
    corner, sides = object_boxes(mask)
    for row, image in enumerate(mask.numpy()[:, 0]):
        filled = (sides[row] > 0).all(1)
        found = sorted(torch.cat([corner[row][filled], sides[row][filled]], 1).int().tolist())
        labels, _ = ndimage.label(image, EIGHT)
        boxes = ndimage.find_objects(labels)
        assert found == sorted([y.start, x.start, y.stop - y.start, x.stop - x.start] for y, x in boxes)
        assert (sides[row][~filled] < 0).all()


def erased(mask, seed, share=0.4):
    """A second CutOut: one object after the other, from the same random numbers."""
    corner, sides = (part.numpy() for part in object_boxes(mask))
    chance = drawn(corner.shape, seed)
    hit = np.zeros(mask.shape, dtype=bool)
    centre = np.arange(mask.shape[-1]) + 0.5
    for image in range(len(mask)):
        for slot in range(corner.shape[1]):
            (y, x), (height, width), (down, right) = corner[image, slot], sides[image, slot], chance[image, slot]
            if height <= 0:
                continue
            top, left = y + down * (1 - share) * height, x + right * (1 - share) * width
            rows = (centre >= top) & (centre < top + share * height)
            columns = (centre >= left) & (centre < left + share * width)
            hit[image, 0] |= rows[:, None] & columns
    return hit


@pytest.mark.parametrize("seed", range(5))
def test_cutout_erases_one_window_an_object(seed):
    mask, z = masks(12, seed=seed), torch.ones(6, 2, 12, 12)
    expected = erased(mask, seed)
    torch.manual_seed(seed)
    found = cutout(z, object_boxes(mask))
    np.testing.assert_array_equal(found.numpy(), np.where(expected, 0, z.numpy()))
    assert expected.any()


def test_cutout_erases_nothing_where_nothing_is_predicted():
    z = feature()
    assert torch.equal(cutout(z, object_boxes(torch.zeros(3, 1, 6, 6, dtype=torch.bool))), z)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_the_adversarial_direction_is_the_hessian_times_the_random_one():
    z, decoder = feature(2, 5, 4), nn.Conv2d(5, 3, 1)
    torch.manual_seed(11)
    d = torch.randn_like(z).double().numpy()
    torch.manual_seed(11)
    step = (vat(z, decoder) - z).detach().numpy()
    matrix = decoder.weight[:, :, 0, 0].detach().double().numpy()
    p = np.exp(log_softmax(decoder(z).detach().double().numpy()))
    change = np.einsum("kc,bchw->bkhw", matrix, d)
    change = p * (change - (p * change).sum(1, keepdims=True))  # (diag p - p p^T) J d
    expected = np.einsum("kc,bkhw->bchw", matrix, change)
    expected *= 2 / np.sqrt((expected**2).sum((1, 2, 3), keepdims=True))
    np.testing.assert_allclose(step, expected, atol=1e-4)


def test_the_search_for_the_adversarial_direction_leaves_no_gradient_and_carries_none():
    z, decoder = feature().requires_grad_(), light_decoder(5, 2, 4)
    moved = vat(z, decoder)
    assert all(p.grad is None for p in decoder.parameters()) and z.grad is None
    moved.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))  # of z + r with a constant r
    assert all(p.grad is None for p in decoder.parameters())


def test_an_adversarial_direction_is_finite_where_the_prediction_is_saturated():
    decoder = nn.Conv2d(5, 2, 1)
    nn.init.constant_(decoder.bias[:1].data, 500.0)
    z = feature()
    assert torch.isfinite(vat(z, decoder)).all()
