"""FixMatch's mechanism, against NumPy, on batches with real CutMix."""

import numpy as np
import pytest
import torch

from benchmark.losses import IGNORE
from benchmark.method import Clock
from methods.fixmatch import FixMatch
from tests.batches import BOXES, batch, gradients, labels_of, mixed, moderate, nll, pasted, spied, task, taught, terms


def test_rectangles_are_taught_the_labels_of_their_image_and_pixels_below_the_threshold_have_no_gradient():
    images, method = mixed(), FixMatch(task())
    method.threshold = moderate(method, images)
    found, logits = spied(method, images)
    found["strong"].backward()
    own = labels_of(logits["weak"], method.threshold)
    assert 0.3 < (own != IGNORE).mean() < 0.7 and not logits["weak"].requires_grad
    y0, x0, y1, x1 = BOXES["strong"][0].tolist()
    box = taught(logits["strong"].grad)[0, y0:y1, x0:x1]
    assert (box == own[1, y0:y1, x0:x1]).all()
    assert (box != own[0, y0:y1, x0:x1]).any()
    assert (taught(logits["strong"].grad) == pasted(own, "strong")).all()


def test_the_term_is_divided_by_all_pixels_and_not_by_the_confident_ones():
    images, method, clock = mixed(), FixMatch(task(), weight=3.0, ramp="linear"), Clock(10)
    clock.step.fill_(4)
    method.threshold = moderate(method, images)
    found, logits = spied(method, images, clock=clock)
    labels = pasted(labels_of(logits["weak"], method.threshold), "strong")
    expected = 3.0 * 0.5 * nll(logits["strong"], labels)
    assert found["strong"].item() == pytest.approx(expected, rel=1e-5)
    assert found["strong"].item() < 0.8 * expected / (labels != IGNORE).mean()


def test_the_weak_view_is_labelled_with_the_statistics_of_its_own_batch():
    images, method = mixed(), FixMatch(task())
    _, logits = spied(method, images)
    assert torch.equal(logits["weak"], method.net(images.weak))
    assert not torch.allclose(logits["weak"], method.net.eval()(images.weak), atol=1e-2)


def test_background_variant_trains_rejected_pixels_as_class_0_with_full_weight():
    images, method = mixed(), FixMatch(task(), rejected="background")
    method.threshold = moderate(method, images)
    found, logits = spied(method, images)
    own = labels_of(logits["weak"], method.threshold)
    labels = pasted(np.where(own == IGNORE, 0, own), "strong")
    assert found["strong"].item() == pytest.approx(nll(logits["strong"], labels), rel=1e-5)
    found["strong"].backward()
    assert (taught(logits["strong"].grad)[pasted(own, "strong") == IGNORE] == 0).all()
    assert method.logged["confident"].item() == pytest.approx((own != IGNORE).mean())


def test_nothing_confident_is_a_loss_of_exactly_0_with_finite_gradients():
    images, method = mixed(), FixMatch(task(), threshold=1.0)
    found, _ = spied(method, images)
    assert found["strong"].item() == 0 and method.logged["confident"].item() == 0
    found["strong"].backward()
    assert all((gradient == 0).all() for gradient in gradients(method.net).values())


def test_in_half_precision_the_pass_without_gradient_takes_none_from_the_next():
    """Autocast keeps converted weights; those of a pass without gradient must not serve one with it."""
    method = FixMatch(task(), threshold=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        found = terms(method, batch(), mixed(), Clock(10))
    found["strong"].backward()
    reached = gradients(method.net)
    assert reached.keys() == dict(method.net.named_parameters()).keys()
    assert all(reached[name].abs().sum() > 0 for name in reached if name.endswith("weight"))
