"""Learning rates against the published schedules; groups, the latch, and what a checkpoint keeps of an optimiser."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.config.schema import Optimiser
from benchmark.errors import UserError
from benchmark.method import Method, ParamGroup
from benchmark.training import optimisers as module
from benchmark.training.optimisers import KINDS, Optimisers, factor
from tests.conftest import refused

CPU = torch.device("cpu")
PUBLISHED = Optimiser(name="sgd", lr=0.5, schedule="step", warmup=0.1, decay_every=0.25, decay=0.5)


class Two(Method):
    """Two layers; `groups` says how they are trained."""

    def __init__(self, *groups: dict) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.groups = groups

    def param_groups(self):
        parts = (self.first, self.second)
        pairs = zip(parts, self.groups, strict=True) if self.groups else ()
        return [ParamGroup(part.parameters(), **group) for part, group in pairs] or super().param_groups()


def train(method, optimisers, steps, first=0):
    """Steps on data that depend on the number of the step alone."""
    for step in range(first, first + steps):
        data = torch.from_numpy(np.random.default_rng(step).normal(size=(6, 3)).astype(np.float32))
        optimisers.zero_grad()
        method.second(method.first(data).tanh()).square().sum().backward()
        optimisers.step(torch.tensor(optimisers.rates_at(step)))


def weights(method):
    return {name: tensor.detach().clone() for name, tensor in method.state_dict().items()}


def memory(optimisers):
    """All tensors that the optimisers remember, copied."""
    return [
        {f"{place}.{key}": value.clone() for place, entry in saved["state"].items() for key, value in entry.items()}
        for saved in optimisers.state_dict()
    ]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# Schedules


def published_rate(epoch):
    """The rates of 200 epochs of SGD from 0.5, as published code prints them."""
    if epoch < 20:
        return 0.5 * epoch / 20
    return 0.5 if epoch <= 70 else 0.25 if epoch <= 120 else 0.125 if epoch <= 170 else 0.0625


@pytest.mark.parametrize("in_epoch", [1, 17])
def test_step_follows_the_published_rates_within_one_epoch(in_epoch):
    for epoch in range(200):
        near = [published_rate(min(199, max(0, epoch + shift))) for shift in (-1, 0, 1)]
        for batch in range(in_epoch):
            rate = PUBLISHED.lr * factor("step", PUBLISHED, epoch * in_epoch + batch, 200 * in_epoch)
            assert min(near) - 1e-12 <= rate <= max(near) + 1e-12, epoch
            assert epoch < 21 or any(math.isclose(rate, value) for value in near), epoch


@pytest.mark.parametrize("schedule", ["cosine", "step", "poly"])
def test_warm_up_is_linear_and_never_0(schedule):
    values = np.array([factor(schedule, PUBLISHED, step, 200) for step in range(19)])
    assert values[0] > 0
    np.testing.assert_allclose(values, np.arange(1, 20) / 20, rtol=1e-12)
    assert factor(schedule, PUBLISHED, 20, 200) == pytest.approx(1)
    assert factor("constant", PUBLISHED, 0, 200) == 1


@pytest.mark.parametrize("warmup", [0.0, 0.1])
@pytest.mark.parametrize(
    ("schedule", "shape"),
    [("cosine", lambda done: (1 + np.cos(np.pi * done)) / 2), ("poly", lambda done: (1 - done) ** 0.9)],
)
def test_cosine_and_poly_fall_from_1_to_0(schedule, shape, warmup):
    settings, steps = Optimiser(warmup=warmup), 400
    start = round(warmup * steps)
    values = np.array([factor(schedule, settings, step, steps) for step in range(start, steps + 1)])
    np.testing.assert_allclose(values, shape(np.arange(steps - start + 1) / (steps - start)), atol=1e-12)
    assert values[0] == 1 and values[-1] == pytest.approx(0, abs=1e-12) and (np.diff(values) < 0).all()
    assert values[-2] > 0  # the last step still learns


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("schedule", module.SCHEDULES)
def test_short_runs_have_positive_rates(schedule, steps):
    assert all(0 < factor(schedule, Optimiser(), step, steps) <= 1 for step in range(steps))


# Groups


def test_what_a_group_leaves_open_comes_from_the_section():
    optimisers = Optimisers(Two(), Optimiser(name="sgd", lr=0.25, weight_decay=0.5, momentum=0.75), 10, CPU)
    (only,) = optimisers.optimisers
    (group,) = only.param_groups
    assert isinstance(only, torch.optim.SGD) and len(group["params"]) == 4
    assert (group["weight_decay"], group["momentum"]) == (0.5, 0.75)
    assert len(optimisers.parameters()) == 4


def test_groups_have_optimiser_rate_schedule_and_decay_of_their_own():
    settings = Optimiser(name="adamw", lr=0.01, weight_decay=0.1, schedule="cosine", warmup=0.1)
    own = {"optimiser": "sgd", "lr": 0.5, "schedule": "step", "weight_decay": 0.0}
    method = Two({}, own)
    optimisers = Optimisers(method, settings, 200, CPU)
    assert [type(optimiser) for optimiser in optimisers.optimisers] == [torch.optim.AdamW, torch.optim.SGD]
    assert [optimiser.param_groups[0]["weight_decay"] for optimiser in optimisers.optimisers] == [0.1, 0.0]
    for step in (0, 19, 60, 110, 199):
        first, second = optimisers.rates_at(step)
        assert first == pytest.approx(0.01 * factor("cosine", settings, step, 200))
        assert second == pytest.approx(0.5 * factor("step", settings, step, 200))


def test_each_group_steps_by_its_own_rate():
    method = Two({"lr": 0.0}, {"lr": 0.5})
    optimisers = Optimisers(method, Optimiser(name="sgd", weight_decay=0.0, schedule="constant"), 10, CPU)
    before = weights(method)
    train(method, optimisers, 1)
    after = weights(method)
    assert torch.equal(before["first.weight"], after["first.weight"])
    step = before["second.weight"] - 0.5 * method.second.weight.grad
    torch.testing.assert_close(after["second.weight"], step)


def test_a_parameter_in_two_groups_is_a_mistake():
    method = Two()
    method.param_groups = lambda: [ParamGroup(method.parameters()), ParamGroup([method.first.bias], optimiser="sgd")]
    with pytest.raises(UserError, match=r"Two\.param_groups\(\) gives a parameter to two optimisers"):
        Optimisers(method, Optimiser(), 10, CPU)


@pytest.mark.parametrize(
    ("group", "wrong", "near"), [({"optimiser": "sdg"}, "sdg", "sgd"), ({"schedule": "cosin"}, "cosin", "cosine")]
)
def test_an_unknown_optimiser_or_schedule_names_the_near_miss(group, wrong, near):
    with refused(f"'{wrong}'", f"Did you mean '{near}'?"):
        Optimisers(Two({}, group), Optimiser(), 10, CPU)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("name", list(KINDS))
def test_adam_can_be_captured_exactly_on_cuda(name, kind, monkeypatch):
    """Fake tensors stand in for the device's, so that this needs none; a recorder stands in for the optimiser."""
    made = []

    class Recorder:
        def __init__(self, parameters, **options):
            made.append(options)
            self.param_groups = [{"params": parameters}]

    monkeypatch.setitem(KINDS, name, Recorder)
    method = Two()
    with FakeTensorMode(allow_non_fake_inputs=True):
        optimisers = Optimisers(method, Optimiser(name=name), 10, torch.device(kind))
        assert optimisers.found_inf.device.type == kind and made[0]["lr"].device.type == kind
    assert made[0]["fused"] is True
    if name == "sgd":
        assert "capturable" not in made[0] and made[0]["momentum"] == 0.9
    else:
        assert made[0]["capturable"] is (kind == "cuda")


# The latch, and what survives a checkpoint


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("name", list(KINDS))
def test_found_inf_makes_a_step_an_exact_no_op(name, before):
    method = Two()
    optimisers = Optimisers(method, Optimiser(name=name, lr=0.1, weight_decay=0.1), 10, CPU)
    train(method, optimisers, before)
    parameters, remembered = weights(method), memory(optimisers)
    optimisers.found_inf.fill_(1)
    method.first.weight.register_hook(lambda gradient: gradient * float("nan"))
    train(method, optimisers, 2, first=before)
    assert same(parameters, weights(method))
    if before:
        assert all(same(a, b) for a, b in zip(remembered, memory(optimisers), strict=True)) and remembered[0]


@pytest.mark.parametrize("groups", [(), ({}, {"optimiser": "sgd", "lr": 0.5, "schedule": "step"})])
@pytest.mark.parametrize("name", list(KINDS))
def test_loaded_optimisers_take_identical_further_steps(name, groups):
    method, settings = Two(*groups), Optimiser(name=name, lr=0.1)
    optimisers = Optimisers(method, settings, 8, CPU)
    train(method, optimisers, 4)
    file = io.BytesIO()
    torch.save({"weights": method.state_dict(), "optimisers": optimisers.state_dict()}, file)
    train(method, optimisers, 4, first=4)

    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = Two(*groups)
    loaded = Optimisers(other, settings, 8, CPU)
    other.load_state_dict(state["weights"])
    loaded.load_state_dict(copy.deepcopy(state["optimisers"]))
    train(other, loaded, 4, first=4)
    assert same(weights(method), weights(other))
    assert all(same(a, b) for a, b in zip(memory(optimisers), memory(loaded), strict=True))
    for optimiser, (rate, _, _) in zip(loaded.optimisers, loaded.rates, strict=True):
        assert optimiser.param_groups[0]["lr"] is rate  # the tensor that a captured graph reads


def test_a_checkpoint_of_other_groups_is_refused():
    one, two = Two(), Two({}, {})
    saved = Optimisers(one, Optimiser(), 8, CPU).state_dict()
    with pytest.raises(ValueError):
        Optimisers(two, Optimiser(), 8, CPU).load_state_dict(saved)
