"""XNet's mechanism: two branches that see different frequencies, exchange features, and teach each other."""

import numpy as np
import pytest
import torch

from benchmark.errors import NotApplicable, UserError
from benchmark.method import Clock
from benchmark.nets.network import Network
from methods._xnet_parts import TwoBranches, high_frequency, low_frequency
from methods.xnet import XNet
from tests.batches import batch, dice, task, terms, unlabelled


def xnet(**more) -> XNet:
    return XNet(task(std=(0.1, 0.2, 0.3)), **({"width": 4} | more))


# The network


def test_the_width_is_that_of_the_finest_level_and_a_sixteenth_of_the_deepest():
    with torch.device("meta"):
        nets = [TwoBranches(3, 2, width=width) for width in (4, 64)]
    assert [max(p.shape[0] for p in net.parameters()) for net in nets] == [64, 1024]
    assert {part.divisor for part in nets[0].modules() if isinstance(part, Network)} == {nets[0].divisor} == {16}


def test_branches_take_three_channels_and_one_and_start_differently():
    net = xnet().net
    first, second = (branch.encoder.trunk.stem[0].weight for branch in net.branches)
    assert (first.shape[1], second.shape[1]) == (3, 1)
    heads = [branch.head.weight for branch in net.branches]
    assert not torch.equal(*heads)
    again = xnet().net
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("network", ["own", "configured"])
def test_each_branch_sees_what_the_other_was_given(network):
    net = xnet(network=network).net
    images = [torch.randn(2, 3, 32, 32, requires_grad=True), torch.randn(2, 1, 32, 32, requires_grad=True)]
    for logits in net(*images):
        assert logits.shape == (2, 2, 32, 32)
        gradients = torch.autograd.grad(logits.square().sum(), images, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_features_are_exchanged_at_the_two_deepest_levels_and_nowhere_else():
    net = xnet().net.eval()
    low, high, other = torch.randn(1, 3, 32, 32), torch.randn(1, 1, 32, 32), torch.randn(1, 1, 32, 32)
    seen = []
    hooks = [m.register_forward_hook(lambda m, given, made: seen.append(made)) for m in net.exchanges[0].transitions]
    first = net(low, high)[0]
    second = net(low, other)[0]
    assert [tuple(feature.shape[1:]) for feature in seen[:2]] == [(32, 4, 4), (64, 2, 2)]
    assert not torch.equal(seen[0], seen[2]) and not torch.equal(seen[1], seen[3])
    assert not torch.allclose(first, second)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():  # with only their own features let through, the branches no longer know of each other
        for transition, own in zip(net.exchanges[0].transitions, (32, 64), strict=True):
            transition[0].weight[:, own:] = 0
    assert torch.equal(net(low, high)[0], net(low, other)[0])
    assert not torch.allclose(net(low, high)[0], first)


def test_a_transition_joins_own_same_level_and_moved_features_of_the_other_branch():
    exchange = xnet().net.exchanges[0].eval()
    fourth, fifth = torch.randn(1, 32, 4, 4), torch.randn(1, 64, 2, 2)
    same, moved = exchange.give(fourth, fifth)
    assert [tuple(f.shape[1:]) for f in same] == [(32, 4, 4), (64, 2, 2)]
    assert [tuple(f.shape[1:]) for f in moved] == [(64, 4, 4), (32, 2, 2)]
    weights = [transition[0].weight for transition in exchange.transitions]
    assert [tuple(w.shape) for w in weights] == [(32, 2 * 32 + 64, 1, 1), (64, 2 * 64 + 32, 1, 1)]
    taken = exchange.take([torch.zeros_like(f) for f in same], same, moved)
    for k, width in enumerate((32, 64)):
        given = np.concatenate([np.zeros_like(same[k].detach()), same[k].detach(), moved[k].detach()], axis=1)[0]
        mixed = np.einsum("oi,ihw->ohw", weights[k].detach().numpy()[:, :, 0, 0], given) / np.sqrt(1 + 1e-5)
        np.testing.assert_allclose(taken[k].detach().numpy()[0], mixed.clip(0), rtol=1e-3, atol=1e-4)
        assert taken[k].shape[1] == width


# What the branches see


def test_branches_see_different_frequencies_of_one_image():
    method, image = xnet(wavelet="haar"), batch().weak
    low, high = method.split(image)
    assert low.shape == (2, 3, 32, 32) and high.shape == (2, 1, 32, 32)
    assert torch.equal(low, low_frequency(image, "haar"))
    assert torch.equal(high, high_frequency(image, "haar", method.task.mean, method.task.std))
    grey = low.mean(1, keepdim=True)
    assert np.abs(np.corrcoef(grey.flatten(), high.flatten())[0, 1]) < 0.5
    assert not torch.equal(xnet(wavelet="db2").split(image)[0], low)


def test_raw_gives_the_first_branch_the_image_itself():
    image = batch().weak
    low, high = xnet(low="raw").split(image)
    assert torch.equal(low, image)
    assert torch.equal(high, xnet().split(image)[1])


# What they learn


def test_each_branch_is_taught_by_what_the_other_one_chooses():
    method, clock = xnet(weight=3.0), Clock(10)
    clock.step.fill_(4)
    low, high = method.net(*method.split(unlabelled().weak))
    assert (low.argmax(1) != high.argmax(1)).any()
    expected = 3.0 * 0.5 * (dice(low, high.argmax(1)) + dice(high, low.argmax(1)))
    found = terms(method, batch(), unlabelled(), clock)["cross"]
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_both_branches_learn_the_labels():
    method = XNet(task(loss="dice"), width=4)
    data = batch()
    low, high = method.net(*method.split(data.weak))
    found = terms(method, data, unlabelled(), Clock(10))["supervised"]
    assert found.item() == pytest.approx(dice(low, data.mask) + dice(high, data.mask), rel=1e-4)


def test_prediction_names_the_low_frequency_branch_first():
    method = xnet().eval()
    image = batch().weak
    answer = method.predict(image)
    low, high = method.net(*method.split(image))
    assert list(answer) == ["low", "high"]
    assert torch.equal(answer["low"], low) and torch.equal(answer["high"], high)


@pytest.mark.parametrize(("bad", "hint"), [
    ({"wavelet": "dbb2"}, "Did you mean 'db2'"), ({"wavelet": "morl"}, "wavelet must be a discrete"),
])
def test_a_wavelet_that_is_unknown_is_refused(bad, hint):
    with pytest.raises(UserError, match=hint):
        XNet(task(), **bad)


def test_sizes_and_weights_that_its_own_network_cannot_take_are_refused():
    with pytest.raises(UserError, match="multiple of 16"):
        XNet(task(size=40), width=4)
    with pytest.raises(NotApplicable, match="pretrained"):
        XNet(task(weights="imagenet", net="smp/unet-resnet18"), width=4)


# The configured network for both branches


def test_branches_may_be_two_of_the_configured_network():
    first, second = xnet(network="configured").net.branches
    assert type(first) is type(second) is type(task().network())
    assert not torch.equal(first.head.weight, second.head.weight)


def test_without_the_exchange_the_configured_branches_are_two_networks():
    """With only their own features let through, each answers as by itself, and the other's image changes nothing."""
    net = xnet(network="configured").net.eval()
    low, high, other = torch.randn(1, 3, 32, 32), torch.randn(1, 1, 32, 32), torch.randn(1, 1, 32, 32)
    assert not torch.equal(net(low, high)[0], net(low, other)[0])
    for exchange in net.exchanges:
        exchange.take = lambda mine, same, moved: mine  # type: ignore[method-assign]
        exchange.give = lambda fourth, fifth: ([fourth, fifth], [])  # type: ignore[method-assign]
    alone = [net.branches[0](low), net.branches[1](high.expand_as(low))]
    assert all(torch.equal(a, b) for a, b in zip(net(low, high), alone, strict=True))
    assert torch.equal(net(low, other)[0], alone[0])


def test_pretrained_weights_need_the_configured_network():
    pretrained = task(net="unet_lite", weights="package", size=64)
    with pytest.raises(NotApplicable, match=r"method\.network=configured"):
        XNet(pretrained)
    branches = XNet(pretrained, network="configured").net.branches
    stems = [next(branch.encoder.parameters()) for branch in branches]
    assert torch.equal(*stems)
