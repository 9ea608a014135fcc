"""Semi-MoE's mechanism, against NumPy."""

import numpy as np
import pytest
import torch

from benchmark import losses
from benchmark.errors import NotApplicable, UserError
from benchmark.method import Clock
from benchmark.targets import boundary, signed_distance
from methods._semimoe_gates import AdaptiveLoss, Gate, MultiGate
from methods.semimoe import SemiMoE
from tests.batches import batch, blobs, task, terms, unlabelled


def arrays(module):
    return {name: p.detach().double().numpy() for name, p in module.named_parameters()}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_gate_agrees_with_numpy():
    gate = Gate(3, 8, dropout=0.1).eval()
    maps = torch.randn(4, 24, 5, 5)
    w = arrays(gate)
    hidden = np.maximum(maps.double().numpy().mean((2, 3)) @ w["squeeze.weight"].T + w["squeeze.bias"], 0)
    hidden = hidden * softmax(hidden @ w["attention.weight"].T + w["attention.bias"])
    expected = softmax(hidden @ w["choose.weight"].T + w["choose.bias"])
    found = gate(maps).detach().numpy()
    assert np.allclose(found, expected, atol=1e-6)
    assert np.allclose(found.sum(1), 1, atol=1e-6)


def test_fused_maps_are_the_weighted_sum_of_experts():
    fusion = MultiGate({"seg": 2, "sdf": 1}, ("seg", "sdf"), 8, 0.0).eval()
    maps = [torch.randn(2, 8, 6, 6) for _ in range(2)]
    fused, weights = fusion(maps)
    for name in ("seg", "sdf"):
        mixed = np.einsum("be,ebchw->bchw", weights[name].detach().numpy(), np.stack([m.numpy() for m in maps]))
        head = fusion.heads[name]
        expected = np.einsum("oc,bchw->bohw", head.weight.detach().numpy()[:, :, 0, 0], mixed)
        expected = expected + head.bias.detach().numpy()[None, :, None, None]
        assert np.allclose(fused[name].detach().numpy(), expected, atol=1e-5)


def test_gates_of_three_experts_with_64_maps_have_the_published_size():
    gates = MultiGate({"seg": 2, "sdf": 1, "bnd": 2}, ("seg", "sdf", "bnd"), 64, 0.1)
    assert sum(p.numel() for p in gates.parameters()) == 84_718


@pytest.mark.parametrize(("encoder", "parameters"), [
    ("separate", 103_665_971 + 3), ("shared", pytest.approx(65.9e6, rel=2e-3)),
])
def test_whole_models_have_the_published_sizes(encoder, parameters):
    """Of U-Nets, 103.67 M and 65.9 M in the released code; tests/test_presets.py has the paper's 181 M."""
    with torch.device("meta"):
        method = SemiMoE(task(net="unet", size=256), encoder=encoder)
    assert sum(p.numel() for p in method.parameters()) == parameters


def test_gates_start_as_in_torch_or_as_in_the_released_code():
    """Fused logits have about twice the spread with the latter (0.2 to 0.4 against 0.4 to 0.7 at three seeds)."""
    spread = {}
    for init in ("default", "kaiming"):
        torch.manual_seed(0)
        method = SemiMoE(task(), gate_init=init)
        with torch.no_grad():
            maps = method.features(torch.randn(2, 3, 32, 32))
            fused, _ = method.gate([maps[name] for name in method.experts])
        spread[init] = torch.stack([logits.std() for logits in fused.values()]).mean()
        biases = [module.bias for module in method.gate.modules() if getattr(module, "bias", None) is not None]
        assert all((bias == 0).all() for bias in biases) == (init == "kaiming")
    assert spread["kaiming"] > 1.5 * spread["default"]


def test_adaptive_loss_agrees_with_eq_11():
    adaptive = AdaptiveLoss(("seg", "sdf", "bnd"), 0.4, {"sdf": 0.5})
    with torch.no_grad():
        adaptive.s.copy_(torch.tensor([0.3, -0.2, 1.1]))
    given = {"seg": torch.tensor(0.7), "sdf": torch.tensor(0.2), "bnd": torch.tensor(0.9)}
    s, values, scale = np.array([0.3, -0.2, 1.1]), np.array([0.7, 0.2, 0.9]), np.array([1, 0.5, 1])
    expected = (scale * np.exp(-s) * values).sum() + 0.4 * np.exp(s).sum()
    assert sum(adaptive(given).values()).item() == pytest.approx(expected, rel=1e-6)


def test_labelled_terms_agree_with_eq_4():
    method = SemiMoE(task(loss="dice"), loss="linear", dropout=0.0)
    found = terms(method, batch(), unlabelled(), Clock(10))
    truth = batch()
    maps = method.features(truth.weak)
    fused, _ = method.gate(list(maps.values()))
    expected = {
        "seg": losses.dice_loss(method.nets["seg"].head(maps["seg"]), truth.mask)
        + losses.dice_loss(fused["seg"], truth.mask),
        "sdf": ((method.nets["sdf"].head(maps["sdf"]).tanh() - truth.sdf) ** 2).mean()
        + ((fused["sdf"].tanh() - truth.sdf) ** 2).mean(),
        "bnd": losses.boundary_dice_loss(method.nets["bnd"].head(maps["bnd"]), truth.boundary)
        + losses.boundary_dice_loss(fused["bnd"], truth.boundary),
    }
    for name, value in expected.items():
        assert found[f"labelled/{name}"].item() == pytest.approx(value.item(), rel=1e-5)


@pytest.mark.parametrize("encoder", ["separate", "shared"])
def test_unlabelled_images_teach_experts_but_not_gates(encoder):
    method = SemiMoE(task(), encoder=encoder)
    found = terms(method, batch(), unlabelled(), Clock(10))
    sum(v for k, v in found.items() if k.startswith("unlabelled/")).backward()
    assert all(p.grad is None for p in method.gate.parameters())
    for name in method.experts:
        assert method.nets[name].head.weight.grad.abs().sum() > 0
    assert method.nets["seg"].encoder.parameters().__next__().grad.abs().sum() > 0
    assert method.adaptive.s.grad.abs().sum() > 0


def test_pseudo_labels_come_from_the_fused_heads_without_gradient():
    method = SemiMoE(task()).eval()
    with torch.no_grad():
        fused, _ = method.gate(list(method.features(unlabelled().weak).values()))
        pseudo = method.pseudo_labels(fused)
    assert torch.equal(pseudo["seg"], fused["seg"].argmax(1))
    assert torch.equal(pseudo["sdf"], fused["sdf"].tanh())
    assert torch.equal(pseudo["bnd"], fused["bnd"].argmax(1))
    assert not any(value.requires_grad for value in pseudo.values())


def test_single_gate_derives_distance_and_boundary_from_the_pseudo_mask():
    method = SemiMoE(task(), pseudo_labels="single")
    assert list(method.gate.gates) == ["seg"]
    mask = blobs()
    logits = torch.nn.functional.one_hot(mask, 2).permute(0, 3, 1, 2).float()
    pseudo = method.pseudo_labels({"seg": logits})
    assert torch.equal(pseudo["sdf"], signed_distance(mask))
    assert torch.equal(pseudo["bnd"], boundary(mask))


def test_weight_grows_with_the_clock_to_its_maximum():
    method, clock = SemiMoE(task(), loss="linear", weight_max=2.0), Clock(10)
    torch.manual_seed(0)
    first = terms(method.eval(), batch(), unlabelled(), clock)
    clock.step.fill_(9)
    last = terms(method, batch(), unlabelled(), clock)
    for name in ("seg", "sdf", "bnd"):
        assert last[f"unlabelled/{name}"].item() == pytest.approx(10 * first[f"unlabelled/{name}"].item(), rel=1e-5)


def test_the_released_broadcasting_mistake_is_off_and_costs_a_perfect_prediction():
    right, wrong = SemiMoE(task()), SemiMoE(task(), sdf_broadcast=True)
    target = torch.stack([torch.full((1, 8, 8), 0.9), torch.full((1, 8, 8), -0.9)])
    perfect = torch.atanh(target)
    assert right.task_loss("sdf", perfect, target, True).item() == pytest.approx(0, abs=1e-10)
    assert wrong.task_loss("sdf", perfect, target, True).item() == pytest.approx(0.5 * 1.8**2, rel=1e-5)
    assert wrong.task_loss("sdf", perfect, target, False).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("experts", [("seg",), ("seg", "sdf"), ("bnd", "seg"), ("seg", "sdf", "bnd")])
def test_any_subset_with_seg_trains(experts):
    method = SemiMoE(task(), experts=experts)
    found = terms(method, batch(), unlabelled(), Clock(10))
    assert {k.split("/")[1] for k in found} == {*experts, "regulariser"}
    sum(found.values()).backward()
    assert all(p.grad is not None for p in method.parameters())


def test_output_chooses_the_official_prediction():
    for output, official in (("fused", "fused"), ("expert", "expert")):
        method = SemiMoE(task(), output=output).eval()
        assert next(iter(method.predict(batch().weak))) == official


def test_learned_loss_weights_have_an_optimiser_of_their_own():
    method = SemiMoE(task())
    rest, own = method.param_groups()
    assert own.optimiser == "adam" and own.lr == 0.05 and own.parameters == [method.adaptive.s]
    assert len(list(rest.parameters)) == len(list(method.parameters())) - 1


@pytest.mark.parametrize(
    ("bad", "word"),
    [({"experts": ("sdf",)}, "seg"), ({"experts": ("seg", "dsf")}, "dsf"), ({"experts": ("seg", "seg")}, "twice")],
)
def test_experts_that_cannot_be_are_refused(bad, word):
    with pytest.raises(UserError, match=word):
        SemiMoE(task(), **bad)


def test_three_classes_are_declined():
    with pytest.raises(NotApplicable, match="two classes"):
        SemiMoE(task(classes=3))
