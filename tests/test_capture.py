"""A captured step: what its warm-up changed is put back; on a GPU it computes what an eager one does."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from benchmark.conformance.checks import CHECKS
from benchmark.conformance.testbed import SMALL, advance, differences, frozen
from benchmark.method import Clock
from benchmark.numerics import Numerics
from benchmark.registry import METHODS
from benchmark.training.cuda_graph import WARM_UP, CudaGraphStep, why_eager
from benchmark.training.step import TrainStep
from methods.supervised import Supervised
from methods.toposemiseg import TopoSemiSeg
from tests.conftest import demo_run, invoke
from tests.factories import method_testbed

GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


def on_gpu(test):
    """What only a CUDA device can show: `pytest -m gpu tests/test_capture.py`, minutes."""
    return GPU[0](GPU[1](test))


def memory(training):
    """Everything that the optimisers remember of each parameter, by name."""
    return {
        f"{number}.{place}.{key}": tensor.clone()
        for number, state in enumerate(training.optimisers.state_dict())
        for place, entry in state["state"].items()
        for key, tensor in entry.items()
    }


def warm_up(training, first, spoil):
    """What a capture does around its graph, eagerly: snapshot, a few steps, restore."""
    captured = CudaGraphStep(training.step)
    saved = captured.snapshot()
    addresses = {name: tensor.data_ptr() for name, tensor in training.method.state_dict().items()}
    before = frozen(training.method.state_dict())
    assert all(tensor.device.type == "cpu" for tensor in saved.values())
    advance(training, first, WARM_UP)
    if spoil:
        training.clock.stopped.fill_(True)
    moved = set(differences(before, training.method.state_dict()))
    captured.restore(saved)
    training.optimisers.zero_grad()
    assert {name: tensor.data_ptr() for name, tensor in training.method.state_dict().items()} == addresses
    return moved


@pytest.mark.parametrize("spoil", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_after_warm_up_a_run_starts_as_if_there_had_been_none(name, spoil):
    tried = method_testbed("mean_teacher", train__steps=8, optimiser__name=name)
    training, fresh = tried.build(), tried.build()
    moved = warm_up(training, 0, spoil)
    assert {part.rpartition(".")[2] for part in moved} >= {"weight", "running_mean", "num_batches_tracked"}
    assert any(part.startswith("teacher.") for part in moved)
    assert not differences(fresh.method.state_dict(), training.method.state_dict())
    assert training.clock.step == 0 and not training.clock.stopped
    left = memory(training)  # warm-up made it, where a fresh training has none
    assert left and not memory(fresh) and not any(tensor.any() for tensor in left.values())
    assert advance(training, 0, 2) == advance(fresh, 0, 2)
    assert not differences(fresh.method.state_dict(), training.method.state_dict())
    assert not differences(memory(fresh), memory(training))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_after_warm_up_amid_a_run_it_goes_on_as_if_there_had_been_none(name):
    """As after a resume, or at a new phase: momentum that was there is put back, not forgotten."""
    tried = method_testbed("semimoe", train__steps=8, optimiser__name=name)
    training, other = tried.build(), tried.build()
    assert advance(training, 0, 2) == advance(other, 0, 2)
    warm_up(training, 2, spoil=False)
    assert training.clock.step == 2
    assert not differences(memory(other), memory(training)) and any(t.any() for t in memory(training).values())
    assert advance(training, 2, 2) == advance(other, 2, 2)
    assert not differences(other.method.state_dict(), training.method.state_dict())


def test_a_captured_step_shows_what_the_eager_one_has():
    training = method_testbed("supervised").build()
    captured = CudaGraphStep(training.step)
    assert captured.names == [] and captured.optimisers is training.optimisers
    advance(training, 0, 1)
    assert captured.names == ["supervised"] and captured.terms == 1


if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_standard_gamma", "Meta"):  # as in torch 2.11
    RULES = torch.library.Library("aten", "IMPL", "Meta")  # its rules are gone with it
    RULES.impl("_standard_gamma", lambda concentration, generator=None: torch.empty_like(concentration))


class Eyes(TorchDispatchMode):
    """Sees every tensor that an operation takes or gives, and remembers where one lay on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.on_host: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        answer = func(*args, **(kwargs or {}))
        seen = (leaf for leaf in tree_leaves((args, kwargs, answer)) if isinstance(leaf, Tensor))
        self.on_host |= {str(func) for tensor in seen if tensor.device.type == "cpu"}
        return answer


# Backward passes that raise in deterministic mode on CUDA, by torch 2.11's own messages. Bicubic enlargement is one,
# too, but fake tensors do not show it: its forward pass is taken apart before it has a node.
UNSTEADY = {
    "AdaptiveAvgPool2DBackward0", "AdaptiveMaxPool2DBackward0", "GridSampler2DBackward0", "MedianBackward1",
    "NllLoss2DBackward0", "ReplicationPad2DBackward0",
}


def backward_passes(terms) -> set[str]:
    """The names of all nodes that a gradient of these terms would pass."""
    found, waiting = {}, [term.grad_fn for term in terms if term.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = node.name()
            waiting += [following for following, _ in node.next_functions if following is not None]
    return set(found.values())


def forward_on_a_pretended_gpu(training, precision="fp32") -> set[str]:
    """Render, losses and what follows the optimiser on fake CUDA tensors; operations that met a tensor of the host.

    Where algorithms must be deterministic, also the backward passes that then would raise.
    """
    plan, method, renderers = training.plans(0, 1)[0], training.method, training.step.renderers
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def moved(tree):
            return tree_map_only(Tensor, lambda tensor: mode.from_tensor(tensor.detach()).to("cuda"), tree)

        for module in method.modules():
            for name, tensor in module._parameters.items():
                if tensor is not None:
                    module._parameters[name] = torch.nn.Parameter(moved(tensor), tensor.requires_grad)
            module._buffers.update(moved(module._buffers))
        for renderer in renderers.values():
            vars(renderer).update(moved(vars(renderer)))
            vars(renderer.normalise).update(moved(vars(renderer.normalise)))
        device = torch.device("cuda")
        idle = SimpleNamespace(found_inf=torch.zeros((), device=device), step=lambda rates: None)
        numerics = Numerics(device, precision, torch.channels_last)
        step = TrainStep(method, Clock(training.steps, device), renderers, idle, numerics)
        plan = moved(plan)
        with Eyes() as eyes:
            terms = {name: term for part in step.parts(step.batches(plan)) for name, term in part.items()}
            step.update(terms, plan["optimiser"]["rates"])
        exact = torch.are_deterministic_algorithms_enabled()
        unsteady = UNSTEADY & backward_passes(terms.values()) if exact else set()
    return eyes.on_host | unsteady


@pytest.fixture
def pretended(monkeypatch):
    """What a step asks torch of a GPU is answered without one."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)  # or autocast is off
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    # the engine of a gradient within the losses needs a device
    monkeypatch.setattr(torch.autograd, "grad", lambda value, place, *_, **__: (torch.zeros_like(place),))
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("precision", "deterministic"), [("fp32", True), ("bf16", False)])
@pytest.mark.parametrize("method", METHODS.names())
def test_a_step_leaves_the_host_alone(method, precision, deterministic, pretended):
    """A copy from the host, of as little as one number, cannot be captured; FakeTensorMode alone would let it pass."""
    training = method_testbed(method, train__steps=8, augment__crop=0.5, train__deterministic=deterministic).build()
    training.method.train()
    assert not forward_on_a_pretended_gpu(training, precision)


def test_a_backward_pass_without_a_deterministic_kernel_is_seen(pretended, monkeypatch):
    def losses(self, labelled, unlabelled, clock):
        return {"supervised": torch.nn.functional.adaptive_avg_pool2d(self.net(labelled.weak), 3).mean()}

    monkeypatch.setattr(Supervised, "losses", losses)
    found = []
    for deterministic in (True, False):
        training = method_testbed("supervised", train__deterministic=deterministic).build()
        found.append(forward_on_a_pretended_gpu(training))
    assert found == [{"AdaptiveAvgPool2DBackward0"}, set()]


def test_a_number_that_comes_from_the_host_is_seen(monkeypatch):
    def losses(self, labelled, unlabelled, clock):
        return {"supervised": torch.tensor(2.0) * self.task.criterion(self.net(labelled.weak), labelled.mask)}

    monkeypatch.setattr(Supervised, "losses", losses)
    assert forward_on_a_pretended_gpu(method_testbed("supervised").build())


def test_a_method_that_is_not_captured_says_why():
    line = why_eager("toposemiseg", method_testbed("toposemiseg").build().method)
    assert line == "toposemiseg runs step by step, without a CUDA graph: persistence is computed on the host"
    assert not TopoSemiSeg.cuda_graph
    assert why_eager("another", method_testbed("supervised").build().method).endswith("it says cuda_graph = False")


AS_RUNS_ARE = {"train__precision": "bf16", "train__deterministic": False}  # where the testbed is exact


def on_the_gpu(method, capture, **more):
    return method_testbed(method, "cuda", train__capture=capture, train__steps=8, **more)


@pytest.mark.parametrize("method", [pytest.param(name, marks=GPU) for name in METHODS.names()])
def test_captured_and_eager_losses_are_the_same(method):
    captured, eager = on_the_gpu(method, "on").build(), on_the_gpu(method, "off").build()
    assert isinstance(captured.step, CudaGraphStep) == captured.method.cuda_graph
    assert not isinstance(eager.step, CudaGraphStep)
    rows, others = advance(captured, 0, 8), advance(eager, 0, 8)
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert captured.clock.step == eager.clock.step == 8


@pytest.mark.parametrize("method", [pytest.param(name, marks=GPU) for name in METHODS.names()])
def test_a_captured_run_repeats_and_resumes_exactly(method):
    CHECKS["resumes_exactly"](on_the_gpu(method, "on"))


@pytest.mark.parametrize("method", ["mean_teacher", "semimoe", "unimatch", "cct"])
@on_gpu
def test_no_step_waits_for_the_device(method):
    training = on_the_gpu(method, "on", **AS_RUNS_ARE).build()
    advance(training, 0, 2)  # captures
    plans = training.plans(2, 4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, plan in enumerate(plans, start=2):
            training.enter_step(step)
            training.step(plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("streamed", [False, True])
@on_gpu
def test_memory_is_flat(streamed, monkeypatch):
    monkeypatch.setenv("SEMIHISTO_RESIDENT", "0" if streamed else "1")
    training = method_testbed("semimoe", "cuda", train__steps=320, **AS_RUNS_ARE).build()
    held = []
    for first in range(0, 320, 16):
        advance(training, first, 16)
        torch.cuda.synchronize()
        held.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert len(set(held[2:])) == 1


@on_gpu
def test_a_streamed_run_computes_what_a_resident_one_does(monkeypatch):
    tried = on_the_gpu("semimoe", "on")
    resident = tried.build()
    monkeypatch.setenv("SEMIHISTO_RESIDENT", "0")
    streamed = tried.build()
    assert streamed.streams and advance(resident, 0, 8) == advance(streamed, 0, 8)
    assert not differences(resident.method.state_dict(), streamed.method.state_dict())


@on_gpu
def test_several_runs_share_a_gpu(tmp_path):
    """As one after the other, bit for bit: `--slots 3` on one device."""
    experiment = tmp_path / "three.yaml"
    settings = {**SMALL, "train.steps": 8, "train.deterministic": True}
    experiment.write_text(json.dumps({
        "about": "three methods", "preset": "demo", "datasets": ["synthetic"], "ratios": [20], "draws": [0],
        "rows": {"all": {"methods": ["supervised", "mean_teacher", "semimoe"], "set": settings}},
    }))
    weights = []
    for slots in ("1", "3"):
        results = tmp_path / slots
        line = ["grid", experiment, "--device", "cuda:0", "--slots", slots, "--results", results]
        assert invoke(*line).returncode == 0
        records = sorted((results / "records").glob("*.json"))
        weights.append([json.loads(path.read_text())["weights_sha256"] for path in records])
    assert len(weights[0]) == 3 and weights[0] == weights[1]


@on_gpu
def test_a_run_that_cannot_be_captured_says_so(tmp_path):
    told = demo_run(tmp_path, "toposemiseg", "--device", "cuda")
    assert told.returncode == 0 and "without a CUDA graph: persistence" in told.stderr
