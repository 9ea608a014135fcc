"""AugSeg's mechanism, against NumPy and Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from benchmark.errors import UserError
from benchmark.losses import IGNORE
from benchmark.method import Clock
from methods._boxes import beta_shares, next_image, random_boxes
from methods._intensity import OPERATIONS, change
from methods.augseg import AugSeg, sureness
from tests.batches import batch, calls, nll, task, terms, unlabelled


def picture(seed=0, count=1, size=32):
    """Smooth images [B, 3, S, S] of whole 8-bit values."""
    noise = torch.rand(count, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(noise, (size, size), mode="bilinear") * 255).round() / 255


def pillow(image):
    return Image.fromarray((image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


@pytest.mark.parametrize(("name", "theirs"), [
    ("contrast", lambda x: ImageEnhance.Contrast(x).enhance(0.5)),
    ("brightness", lambda x: ImageEnhance.Brightness(x).enhance(0.5)),
    ("colour", lambda x: ImageEnhance.Color(x).enhance(0.5)),
    ("autocontrast", ImageOps.autocontrast), ("posterize", lambda x: ImageOps.posterize(x, 6)),
    ("equalize", ImageOps.equalize), ("sharpness", lambda x: ImageEnhance.Sharpness(x).enhance(0.5)),
    ("solarize", lambda x: ImageOps.solarize(x, 128)), ("identity", lambda x: x),
])
def test_operations_are_those_of_pillow(name, theirs):
    image = picture()
    found = OPERATIONS[name](image, torch.full((1, 1, 1, 1), 0.5))
    wanted = np.asarray(theirs(pillow(image))).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found[0], wanted, atol=0.02)


def test_equalizing_keeps_equal_values_equal():
    image = picture(size=256)
    image[..., :20, :] = 1
    found = OPERATIONS["equalize"](image, None)
    assert (found[..., :20, :] == 1).all()
    wanted = np.asarray(ImageOps.equalize(pillow(image))).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found[0], wanted, atol=0.02)
    assert torch.equal(OPERATIONS["equalize"](image[..., :20, :], None), image[..., :20, :])


def test_blur_agrees_with_scipy():
    image = picture(size=256)
    found = OPERATIONS["blur"](image, torch.full((1, 1, 1, 1), 0.5))
    wanted = gaussian_filter(image[0].numpy(), (0, 1.05, 1.05), mode="mirror", radius=(0, 6, 6))
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)


def test_hue_keeps_grey_and_saturation_and_half_a_circle_swaps_opposite_colours():
    image, half = picture(), torch.full((1, 1, 1, 1), 0.5)
    assert torch.allclose(OPERATIONS["hue"](image, half), image, atol=1e-6)
    turned = OPERATIONS["hue"](image, torch.zeros(1, 1, 1, 1))
    mean = image.mean(1, keepdim=True)
    assert torch.allclose(turned - mean, mean - image, atol=1e-5)
    assert torch.allclose(OPERATIONS["hue"](mean.expand_as(image), torch.full((1, 1, 1, 1), 0.8)), mean, atol=1e-6)


def test_each_image_gets_one_to_three_operations_of_the_list(monkeypatch):
    marks = [f"mark{k}" for k in range(1, 6)]
    for k, name in enumerate(marks, start=1):
        monkeypatch.setitem(OPERATIONS, name, lambda image, strength, k=k: image + 10.0**-k)
    torch.manual_seed(0)
    found = change(torch.zeros(400, 3, 1, 1), marks, 3)[:, 0, 0, 0]
    digits = np.array([[int(digit) for digit in f"{value:.5f}"[2:]] for value in found.tolist()])
    assert set(np.unique(digits)) == {0, 1} and set(digits.sum(1)) == {1, 2, 3} and digits.any(0).all()


def test_sureness_agrees_with_numpy():
    p = np.array([0.7, 0.9, 0.95, 0.99])
    logits = torch.tensor(np.log(np.stack([p, 1 - p], 1))).float().view(4, 2, 1, 1).expand(4, 2, 3, 3)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)) / np.log(2)
    np.testing.assert_allclose(sureness(logits), (1 - entropy) * p, rtol=1e-5)
    np.testing.assert_allclose(sureness(logits), [0.08, 0.48, 0.68, 0.91], atol=0.01)


def test_boxes_lie_within_the_image_and_have_the_area():
    image, area = torch.zeros(300, 3, 32, 32), torch.linspace(0.01, 1, 300)
    boxes = random_boxes(image, area)
    sides = (32 * area.sqrt()).round()
    assert torch.equal(boxes.sum((1, 2, 3)), (sides**2).long()) and boxes[-1].all()
    shares = beta_shares(torch.zeros(4000, 1), 8, 2)
    assert shares.mean().item() == pytest.approx(0.8, abs=0.02)


@pytest.fixture
def learned(monkeypatch):
    """What the student saw of mixed images, its logits and all terms, where all images are as sure as `rho`."""
    def learn(method, rho):
        images, seen = unlabelled(count=3), calls(method.net)
        monkeypatch.setattr("methods.augseg.sureness", lambda logits: torch.full((3,), rho))
        torch.manual_seed(0)
        found = terms(method, batch(), images, Clock(10))
        return images, *seen[-1], found

    return learn


@pytest.mark.parametrize(("rho", "helped"), [(1.0, False), (0.0, True)])
def test_labelled_boxes_come_with_certainty_or_never_with_their_truth(learned, rho, helped):
    method = AugSeg(task(), operations=("identity",), threshold=1.0)  # no pseudo-label is kept
    method.strong = lambda image: image
    images, mixed, logits, found = learned(method, rho)
    truth = batch()
    labels = np.full((3, 32, 32), IGNORE)
    for row in range(3):
        other = (row + 1) % 3  # the image whose box it has, in which there is a box of a labelled one
        true = (mixed[row] == truth.weak[other % 2]).all(0).numpy()
        labels[row][true] = truth.mask[other % 2].numpy()[true]
        own, next_one = ((mixed[row] == images.weak[k]).all(0).numpy() for k in (row, other))
        assert (own | next_one | true).all() and next_one.any()
    assert (labels != IGNORE).any() == helped
    assert found["strong"].item() == pytest.approx(nll(logits, labels), rel=1e-5)


def test_pasted_pixels_are_taught_the_pseudo_label_of_their_image(learned):
    method = AugSeg(task(), threshold=0.0)
    method.strong = lambda image: image
    method.teacher.net.load_state_dict(method.task.network().state_dict())
    images, mixed, logits, found = learned(method, 1.0)
    own = method.teacher(images.weak).argmax(1).numpy()
    labels = own.copy()
    for row in range(3):
        pasted = (mixed[row] != images.weak[row]).any(0).numpy()
        labels[row][pasted] = own[(row + 1) % 3][pasted]
    assert (labels != own).any() and found["strong"].item() == pytest.approx(nll(logits, labels), rel=1e-5)


def test_the_strong_view_changes_true_intensities_and_returns_to_the_normalised_scale():
    settings = task(mean=(0.7, 0.5, 0.6), std=(0.2, 0.25, 0.1))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (settings.mean, settings.std))
    image = (picture(count=3) - mean) / std
    assert torch.allclose(AugSeg(settings, operations=("identity",)).strong(image), image, atol=1e-5)
    method = AugSeg(settings, operations=("brightness",))
    with torch.autocast("cpu", torch.bfloat16):
        ratio = (method.strong(image) * std + mean) / picture(count=3).clamp(min=1e-3)
    bright = ratio[picture(count=3) > 0.1]
    assert bright.min() > 0.04 and bright.max() < 0.96  # towards true black, by a factor
    images, seen = unlabelled(count=3), calls(method.net)
    images.weak = image
    terms(method, batch(), images, Clock(10))
    assert not any((seen[-1][0] == image[k]).all(1).any() for k in range(3))


def test_help_from_labels_is_drawn_for_every_image(monkeypatch):
    method, images = AugSeg(task(), operations=("identity",)), unlabelled(count=3)
    method.strong = lambda image: image
    monkeypatch.setattr("methods.augseg.sureness", lambda logits: torch.tensor([1.0, 0.0, 1.0]))
    monkeypatch.setattr("methods.augseg.random_boxes", lambda image, area: torch.ones(3, 1, 32, 32, dtype=torch.bool))
    seen = calls(method.net)
    terms(method, batch(), images, Clock(10))
    assert torch.equal(seen[-1][0], torch.stack([batch().weak[1], images.weak[2], images.weak[0]]))


def test_an_unknown_operation_is_refused():
    with pytest.raises(UserError, match="unknown sharpen"):
        AugSeg(task(), operations=("sharpen",))


def test_an_image_alone_in_its_batch_is_not_pasted_into_itself():
    assert torch.equal(next_image(torch.arange(3)), torch.tensor([1, 2, 0]))
    with pytest.raises(UserError, match=r"train\.batch_unlabelled to 2 or more"):
        next_image(torch.zeros(1, 3, 8, 8))
