"""Cross teaching's mechanism."""

import math

import pytest
import torch

from benchmark.errors import UserError
from benchmark.method import Clock
from benchmark.nets.swin_unet import SwinUNet
from benchmark.nets.unet import UNet
from methods.cross_teaching import CrossTeaching
from tests.batches import batch, calls, dice, task, terms, unlabelled

SMALL = {"transformer": "swin_unet_small"}


def gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None and p.grad.abs().sum() > 0]


def test_a_cnn_and_a_transformer_without_a_common_weight():
    method = CrossTeaching(task(), **SMALL)
    assert isinstance(method.cnn, UNet) and isinstance(method.transformer, SwinUNet)
    own, others = ({id(p) for p in net.parameters()} for net in (method.cnn, method.transformer))
    assert not own & others and own | others == {id(p) for p in method.parameters()}


def test_each_is_taught_the_argmax_of_the_other_by_dice_and_not_its_own():
    method, clock = CrossTeaching(task(), weight=0.5, **SMALL).eval(), Clock(10)
    clock.step.fill_(4)
    image = unlabelled().weak
    found = terms(method, batch(), unlabelled(), clock)
    cnn, transformer = method.cnn(image), method.transformer(image)
    ramp = 0.5 * math.exp(-5 * (1 - 0.4) ** 2)
    for name, pupil, teacher in (("cnn", cnn, transformer), ("transformer", transformer, cnn)):
        right, own = dice(pupil, teacher.argmax(1)), dice(pupil, pupil.argmax(1))
        assert abs(right - own) > 0.01, "the two networks must disagree here, or nothing is shown"
        assert found[f"taught/{name}"].item() == pytest.approx(ramp * right, rel=1e-4)
    agreement = (cnn.argmax(1) == transformer.argmax(1)).double().mean().item()
    assert method.logged["agreement"].item() == pytest.approx(agreement)


@pytest.mark.parametrize(("pupil", "teacher"), [("cnn", "transformer"), ("transformer", "cnn")])
@pytest.mark.parametrize("term", ["taught", "supervised"])
def test_a_term_moves_its_own_network_alone_and_no_gradient_flows_through_pseudo_labels(term, pupil, teacher):
    method, clock = CrossTeaching(task(), ramp="constant", **SMALL), Clock(10)
    terms(method, batch(), unlabelled(), clock)[f"{term}/{pupil}"].backward()
    assert len(gradients(method.get_submodule(pupil))) > 20
    assert all(p.grad is None for p in method.get_submodule(teacher).parameters())


def test_both_networks_pass_labelled_and_unlabelled_images_apart():
    method = CrossTeaching(task(), **SMALL)
    seen = [calls(net) for net in (method.cnn, method.transformer)]
    terms(method, batch(count=2), unlabelled(count=3), Clock(10))
    assert [[len(image) for image, _ in each] for each in seen] == [[2, 3], [2, 3]]


def test_each_network_has_an_optimiser_group_of_its_own():
    method = CrossTeaching(task(), transformer_lr=0.003, transformer_decay=0.02, **SMALL)
    first, second = method.param_groups()
    assert {id(p) for p in first.parameters} == {id(p) for p in method.cnn.parameters()}
    assert {id(p) for p in second.parameters} == {id(p) for p in method.transformer.parameters()}
    assert (first.optimiser, first.lr, first.weight_decay) == (None, None, None)
    assert (second.optimiser, second.lr, second.weight_decay, second.schedule) == ("adamw", 0.003, 0.02, None)


def test_configured_puts_both_under_the_rule_of_the_run():
    method = CrossTeaching(task(), transformer_optimiser="configured", transformer_lr=0.003, **SMALL)
    given = [(g.optimiser, g.lr, g.weight_decay, g.schedule) for g in method.param_groups()]
    assert given == 2 * [(None, None, None, None)]


def test_two_networks_of_one_kind_are_refused():
    with pytest.raises(UserError, match=r"method\.transformer must differ"):
        CrossTeaching(task(), **(SMALL | {"transformer": "unet_small"}))


def test_a_transformer_that_is_unknown_or_does_not_fit_is_refused():
    with pytest.raises(UserError, match="Did you mean 'swin_unet'"):
        CrossTeaching(task(), transformer="swinunet")
    with pytest.raises(UserError, match=r"size 48 does not fit network 'swin_unet_small'.* 32 or 64"):
        CrossTeaching(task(size=48), **SMALL)
