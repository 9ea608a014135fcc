"""UniMatch's mechanism, against NumPy, on batches with real CutMix."""

import numpy as np
import pytest
import torch

from benchmark.errors import NotApplicable
from benchmark.losses import IGNORE
from benchmark.method import Clock
from methods.unimatch import UniMatch
from tests.batches import (
    batch,
    calls,
    gradients,
    labels_by_stream,
    mixed,
    moderate,
    nll,
    softmax,
    spied,
    task,
    taught,
    terms,
)

STREAMS = ("strong", "strong2", "features")


def spied_within(method, images, **more):
    """All terms, and the logits by stream and what the decoder was given for the whole and the dropped features."""
    heads, given = calls(method.net.head, keep_grad=True), calls(method.net.decoder)
    found, logits = spied(method, images, **more)
    whole, dropped = (features for features, _ in given[:2])
    return found, logits | {"weak": heads[0][1], "features": heads[1][1]}, (whole, dropped)


@pytest.fixture
def learner():
    images, method = mixed(), UniMatch(task())
    method.threshold = moderate(method, images)
    return method, images


@pytest.mark.parametrize("stream", STREAMS)
def test_pixels_below_the_threshold_have_exactly_no_gradient_and_all_others_pull_to_their_label(learner, stream):
    method, images = learner
    found, logits, _ = spied_within(method, images)
    found[stream].backward()
    labels = labels_by_stream(logits, method.threshold)[stream]
    assert 0.3 < (labels != IGNORE).mean() < 0.7
    assert (taught(logits[stream].grad) == labels).all()
    for other in set(STREAMS) - {stream}:
        assert logits[other].grad is None


def test_terms_are_weighed_a_quarter_a_quarter_and_a_half_and_divided_by_all_pixels(learner):
    method, images = learner
    method.weight, method.ramp, clock = 3.0, "linear", Clock(10)
    clock.step.fill_(4)
    found, logits, _ = spied_within(method, images, clock=clock)
    labels = labels_by_stream(logits, method.threshold)
    for stream, share in zip(STREAMS, (0.25, 0.25, 0.5), strict=True):
        expected = 3.0 * 0.5 * share * nll(logits[stream], labels[stream])
        assert found[stream].item() == pytest.approx(expected, rel=1e-5), stream
    assert method.logged["confident"].item() == pytest.approx((labels["features"] != IGNORE).mean())


def test_dropped_features_lose_half_of_their_channels_at_every_scale(learner):
    method, images = learner
    _, logits, (whole, dropped) = spied_within(method, images)
    assert len(whole) == len(dropped) == len(method.net.feature_widths)
    for before, after in zip(whole, dropped, strict=True):
        live = before.abs().amax((2, 3)) > 0
        lost = (after == 0).all(3).all(2)
        kept = torch.isclose(after, 2 * before).all(3).all(2)
        assert (lost | kept).all()
        assert 0.2 < lost[live].float().mean() < 0.8
    assert not torch.allclose(logits["features"], logits["weak"], atol=1e-2)


def test_without_dropout_the_fourth_stream_is_the_weak_view_itself():
    method = UniMatch(task(), dropout=0.0)
    _, logits, _ = spied_within(method, mixed())
    assert torch.equal(logits["features"], logits["weak"])


def test_weak_view_is_encoded_once_and_its_plain_decoding_carries_no_gradient(learner):
    method, images = learner
    encoded = calls(method.net.encoder)
    _, logits, _ = spied_within(method, images)
    assert sum(image is images.weak for image, _ in encoded) == 1 and len(encoded) == 4
    assert not logits["weak"].requires_grad and logits["features"].requires_grad


def test_dropped_features_teach_encoder_decoder_and_head(learner):
    method, images = learner
    terms(method, batch(), images, Clock(10))["features"].backward()
    reached = gradients(method.net)
    assert reached.keys() == dict(method.net.named_parameters()).keys()
    assert all(reached[name].abs().sum() > 0 for name in reached if name.endswith("weight"))


def test_dice_variant_leaves_pixels_that_are_not_confident_out_of_the_sums(learner):
    method, images = learner
    method.unsupervised = "dice"
    found, logits, _ = spied_within(method, images)
    labels = labels_by_stream(logits, method.threshold)
    for stream, share in zip(STREAMS, (0.25, 0.25, 0.5), strict=True):
        scores = []
        for row, label in zip(softmax(logits[stream]), labels[stream], strict=True):
            sure = label != IGNORE
            for kind in range(2):
                inside, truth = row[kind][sure], label[sure] == kind
                scores.append((2 * inside[truth].sum() + 1) / ((inside**2).sum() + truth.sum() + 1))
        assert found[stream].item() == pytest.approx(share * (1 - np.mean(scores)), rel=1e-5), stream
    found["strong"].backward()
    assert (logits["strong"].grad.abs().sum(1).numpy()[labels["strong"] == IGNORE] == 0).all()


@pytest.mark.parametrize("unsupervised", ["ce", "dice"])
def test_nothing_confident_is_a_loss_of_exactly_0_with_finite_gradients(unsupervised):
    method = UniMatch(task(), threshold=1.0, unsupervised=unsupervised)
    found = terms(method, batch(), mixed(), Clock(10))
    assert [found[stream].item() for stream in STREAMS] == [0, 0, 0]
    sum(found[stream] for stream in STREAMS).backward()
    assert all((gradient == 0).all() for gradient in gradients(method.net).values())


def test_a_network_without_parts_is_declined_before_anything_is_trained():
    with pytest.raises(NotApplicable, match="level by level"):
        UniMatch(task(net="smp/fpn-resnet18", size=64))
