"""Cross pseudo supervision's mechanism, against NumPy."""

import pytest
import torch

from benchmark.method import Clock
from methods.cps import CPS
from tests.batches import batch, dice, nll, task, terms, unlabelled


def test_the_two_networks_are_of_one_kind_and_start_different():
    method = CPS(task())
    pairs = list(zip(method.first.parameters(), method.second.parameters(), strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    assert not torch.equal(next(method.first.parameters()), next(method.second.parameters()))


@pytest.mark.parametrize("images", ["all", "unlabelled"])
def test_each_network_learns_the_others_argmax(images):
    method = CPS(task(), weight=2.0, images=images)
    found = terms(method, batch(), unlabelled(), Clock(10))
    logits = {}
    for name in ("first", "second"):
        net = getattr(method, name)
        parts = [net(batch().weak), net(unlabelled().weak)]
        logits[name] = torch.cat(parts) if images == "all" else parts[1]
    for pupil, teacher in (("first", "second"), ("second", "first")):
        label = logits[teacher].argmax(1).numpy()
        expected = 2.0 * nll(logits[pupil], label)
        assert found[f"{teacher}_teaches_{pupil}"].item() == pytest.approx(expected, rel=1e-4)


def test_the_pseudo_label_carries_no_gradient():
    method = CPS(task())
    terms(method, batch(), unlabelled(), Clock(10))["second_teaches_first"].backward()
    assert all(p.grad is None for p in method.second.parameters())
    assert all(p.grad is not None for p in method.first.parameters())


def test_dice_pseudo_loss_agrees_with_numpy():
    method = CPS(task(), weight=1.0, pseudo_loss="dice", images="unlabelled")
    found = terms(method, batch(), unlabelled(), Clock(10))["second_teaches_first"].item()
    label = method.second(unlabelled().weak).argmax(1)
    assert found == pytest.approx(dice(method.first(unlabelled().weak), label), rel=1e-4)
