"""URPC's mechanism."""

import numpy as np
import pytest
import torch

from benchmark.errors import NotApplicable
from benchmark.method import Clock, Task
from benchmark.nets.unet import UNet
from methods.urpc import URPC, rectified
from tests.batches import batch, softmax, task, terms, unlabelled


def second(scales, kl):
    """The rectified consistency in NumPy: its squared part, and its divergence part."""
    probabilities = [softmax(logits) for logits in scales]
    average = sum(probabilities) / len(probabilities)
    squares, divergences = [], []
    for probability in probabilities:
        p, q = (probability, average) if kl == "paper" else (average, probability)
        divergence = (p * np.log(p / q)).sum(1)
        certainty = np.exp(-divergence)[:, None]
        squares.append(((average - probability) ** 2 * certainty).mean() / (certainty.mean() + 1e-8))
        divergences.append(divergence.mean())
    return np.mean(squares), np.mean(divergences)


def random_scales(classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return list(2 * torch.randn(4, 2, classes, 5, 5, generator=generator))


@pytest.mark.parametrize("kl", ["paper", "swapped"])
@pytest.mark.parametrize("classes", [2, 3])
def test_consistency_is_rectified_by_the_divergence(kl, classes):
    scales = random_scales(classes)
    assert rectified(scales, kl).item() == pytest.approx(sum(second(scales, kl)), rel=1e-5)


def test_saturated_logits_give_a_finite_loss_and_finite_gradients():
    sure = torch.tensor([100.0, -100.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    for kl in ("paper", "swapped"):
        scales = [sure.clone().requires_grad_(), (-sure).clone().requires_grad_(), torch.zeros(1, 2, 3, 3)]
        loss = rectified(scales, kl)
        loss.backward()
        assert torch.isfinite(loss) and all(torch.isfinite(scale.grad).all() for scale in scales[:2])


def test_gradients_flow_through_the_mean_prediction_too():
    scales = [logits[:1, :, :2, :2].double().requires_grad_() for logits in random_scales()]
    assert torch.autograd.gradcheck(lambda *z: rectified(z), scales)  # finite differences know of no detaching


def test_heads_read_the_decoders_maps_at_four_scales():
    method = URPC(task(), perturb=False)
    image = unlabelled().weak
    maps = [m.detach().numpy() for m in method.net.decode(method.net.encode(image))]
    found = torch.stack(method.pyramid(image), 1).detach().numpy()
    for scale, head in enumerate((method.net.head, *method.heads)):
        weight, bias = head.weight.detach().numpy()[:, :, 0, 0], head.bias.detach().numpy()
        logits = np.einsum("kc,bchw->bkhw", weight, maps[3 - scale]) + bias[:, None, None]
        enlarged = np.kron(logits, np.ones((2**scale, 2**scale)))
        np.testing.assert_allclose(found[:, scale], enlarged, atol=1e-4)


def test_auxiliary_heads_are_perturbed_in_training_only():
    image = unlabelled().weak
    for perturb, training in ((True, True), (True, False), (False, True)):
        method = URPC(task(), perturb=perturb).train(training)
        first, again = torch.stack(method.pyramid(image), 1), torch.stack(method.pyramid(image), 1)
        same = [torch.equal(a, b) for a, b in zip(first.unbind(1), again.unbind(1), strict=True)]
        assert same == ([True, False, False, False] if perturb and training else [True] * 4)


def test_supervision_is_the_mean_over_the_heads():
    method = URPC(task(), perturb=False)
    labelled = batch()
    found = terms(method, labelled, unlabelled(), Clock(10))["supervised"]
    expected = [method.task.criterion(z, labelled.mask).item() for z in method.pyramid(labelled.weak)]
    assert found.item() == pytest.approx(sum(expected) / 4, rel=1e-5)
    found.backward()
    for parameter in (*method.heads.parameters(), *method.net.head.parameters()):
        assert parameter.grad.abs().max() > 0


def test_consistency_is_of_the_unlabelled_images_with_weight_and_ramp():
    method, clock = URPC(task(), perturb=False, weight=3.0), Clock(10)
    clock.step.fill_(5)
    scales = method.pyramid(unlabelled().weak)
    expected = 3.0 * np.exp(-5 * 0.5**2) * sum(second(scales, "paper"))
    for labelled in (batch(), batch(seed=9)):
        found = terms(method, labelled, unlabelled(), clock)["consistency"].item()
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_network_of_fewer_scales_is_declined(monkeypatch):
    monkeypatch.setattr(Task, "network", lambda self: UNet(3, 2, widths=(4, 8, 16, 32)))
    with pytest.raises(NotApplicable, match="4 scales"):
        URPC(task())
