"""A captured step: what its warm-up changed is put back; on a GPU it computes what an eager one does."""

from __future__ import annotations

import pytest
import torch

from benchmark.data.prepared import load
from benchmark.engine.bench import Bench, advance, differences, frozen
from benchmark.engine.capture import WARM_UP, CapturedStep
from benchmark.engine.conformance import CHECKS
from benchmark.registry import METHODS
from benchmark.runs.request import Request, specify

SETTINGS = {
    "data.size": 32, "train.steps": 8, "train.batch_labelled": 3, "train.batch_unlabelled": 3, "evaluate.times": 1,
}
GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


def bench(method, device="cpu", **more):
    overrides = SETTINGS | {key.replace("__", "."): value for key, value in more.items()}
    spec, split = specify(Request(method, "synthetic", preset="demo", overrides=overrides), device)
    return Bench(spec, load("synthetic", 32), split, torch.device(device))


def memory(session):
    """Everything that the optimisers remember of each parameter, by name."""
    return {
        f"{number}.{place}.{key}": tensor.clone()
        for number, state in enumerate(session.optimisers.state_dict())
        for place, entry in state["state"].items()
        for key, tensor in entry.items()
    }


def warm_up(session, first, spoil):
    """What a capture does around its graph, eagerly: snapshot, a few steps, restore."""
    captured = CapturedStep(session.step)
    saved = captured._snapshot()
    addresses = {name: tensor.data_ptr() for name, tensor in session.method.state_dict().items()}
    before = frozen(session.method.state_dict())
    advance(session, first, WARM_UP)
    if spoil:
        session.clock.stopped.fill_(True)
    moved = set(differences(before, session.method.state_dict()))
    captured._restore(saved)
    session.optimisers.zero_grad()
    assert {name: tensor.data_ptr() for name, tensor in session.method.state_dict().items()} == addresses
    return moved


@pytest.mark.parametrize("spoil", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_after_warm_up_a_run_starts_as_if_there_had_been_none(name, spoil):
    tried = bench("mean_teacher", optimiser__name=name)
    session, fresh = tried.session(), tried.session()
    moved = warm_up(session, 0, spoil)
    assert {part.rpartition(".")[2] for part in moved} >= {"weight", "running_mean", "num_batches_tracked"}
    assert any(part.startswith("teacher.") for part in moved)
    assert not differences(fresh.method.state_dict(), session.method.state_dict())
    assert session.clock.step == 0 and not session.clock.stopped
    left = memory(session)  # warm-up made it, where a fresh session has none
    assert left and not memory(fresh) and not any(tensor.any() for tensor in left.values())
    assert advance(session, 0, 2) == advance(fresh, 0, 2)
    assert not differences(fresh.method.state_dict(), session.method.state_dict())
    assert not differences(memory(fresh), memory(session))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_after_warm_up_amid_a_run_it_goes_on_as_if_there_had_been_none(name):
    """As after a resume, or at a new phase: momentum that was there is put back, not forgotten."""
    tried = bench("semimoe", optimiser__name=name)
    session, other = tried.session(), tried.session()
    assert advance(session, 0, 2) == advance(other, 0, 2)
    warm_up(session, 2, spoil=False)
    assert session.clock.step == 2
    assert not differences(memory(other), memory(session)) and any(t.any() for t in memory(session).values())
    assert advance(session, 2, 2) == advance(other, 2, 2)
    assert not differences(other.method.state_dict(), session.method.state_dict())


def test_a_captured_step_shows_what_the_eager_one_has():
    session = bench("supervised").session()
    captured = CapturedStep(session.step)
    assert captured.names == [] and captured.optimisers is session.optimisers
    advance(session, 0, 1)
    assert captured.names == ["supervised"] and captured.terms == 1


def gpu_bench(method, capture):
    return bench(method, "cuda", train__capture=capture, train__precision="fp32", train__deterministic=True)


@pytest.mark.parametrize("method", [pytest.param(name, marks=GPU) for name in METHODS.names()])
def test_captured_and_eager_losses_are_the_same(method):
    captured, eager = gpu_bench(method, "on").session(), gpu_bench(method, "off").session()
    assert isinstance(captured.step, CapturedStep) == captured.method.capturable
    assert not isinstance(eager.step, CapturedStep)
    rows, others = advance(captured, 0, 8), advance(eager, 0, 8)
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert captured.clock.step == eager.clock.step == 8


@pytest.mark.parametrize("method", [pytest.param(name, marks=GPU) for name in METHODS.names()])
def test_a_captured_run_repeats_and_resumes_exactly(method):
    CHECKS["repeats"](gpu_bench(method, "on"))
    CHECKS["resumes_exactly"](gpu_bench(method, "on"))
