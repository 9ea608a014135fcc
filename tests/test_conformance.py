"""Every method keeps the contract; and the suite that says so catches those that do not."""

from __future__ import annotations

import math

import pytest
import torch

from benchmark.data.prepared import load
from benchmark.engine import conformance
from benchmark.engine.conformance import CHECKS, STEPS, Bench
from benchmark.errors import UserError
from benchmark.method import Method
from benchmark.registry import METHODS
from benchmark.runs.request import Request, specify

SMALL = {
    "data.size": 32, "train.steps": STEPS, "train.batch_labelled": 3, "train.batch_unlabelled": 3, "evaluate.times": 1,
}


def bench(method: str, **overrides) -> Bench:
    device = torch.device("cpu")
    spec, split = specify(Request(method, "synthetic", preset="demo", overrides=SMALL | overrides), device.type)
    return Bench(spec, load("synthetic", spec.values["data.size"]), split, device)


@pytest.mark.parametrize("check", list(CHECKS))
@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_keeps_the_contract(method, check):
    CHECKS[check](bench(method))


@pytest.mark.parametrize(
    "overrides",
    [{"method.encoder": "shared"}, {"method.pseudo_labels": "single"}, {"method.loss": "linear"},
     {"method.experts": ("seg", "bnd")}],
)
@pytest.mark.parametrize("check", ["resumes_exactly", "step_can_be_captured", "gradients_reach_what_is_trained"])
def test_ablations_keep_it_too(overrides, check):
    CHECKS[check](bench("semimoe", **overrides))


HEADER = """
import torch
from benchmark.method import Method

class Broken(Method):
    '''Nobody 2026: a method with a fault.'''

    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(self, task):
        super().__init__()
        self.net = task.network()
        self.task = task
        self.calls = 0

    def loss(self, labelled):
        return self.task.criterion(self.net(labelled.weak), labelled.mask)

    def predict(self, image):
        return self.net(image)
"""

FAULTS = {
    "resumes_exactly": """
    def losses(self, labelled, unlabelled, clock):
        self.calls += 1  # remembered outside the module
        return {"supervised": self.calls * self.loss(labelled)}
""",
    "repeats": """
    def losses(self, labelled, unlabelled, clock):
        import random
        return {"supervised": (1 + random.random()) * self.loss(labelled)}
""",
    "extreme_masks_are_borne": """
    def losses(self, labelled, unlabelled, clock):
        known = (labelled.mask == 1).sum()
        return {"supervised": self.loss(labelled) * known / known}
""",
    "losses_are_finite": """
    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.loss(labelled) / 0.0}
""",
    "gradients_reach_what_is_trained": """
    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.task.criterion(self.net(labelled.weak).detach(), labelled.mask)
                + 0 * next(self.net.parameters()).sum()}
""",
    "evaluation_is_pure": """
    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.loss(labelled)}

    def predict(self, image):
        return self.net(image) + torch.rand(1)
""",
    "prediction_has_shape": """
    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.loss(labelled)}

    def predict(self, image):
        return self.net(image)[:, :1]
""",
    "step_can_be_captured": """
    def losses(self, labelled, unlabelled, clock):
        loss = self.loss(labelled)
        return {"supervised": loss if loss.item() > 0 else 2 * loss}
""",
    "state_stays_in_place": """
    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.loss(labelled)}

    def after_step(self, clock):
        self.net.head.bias = torch.nn.Parameter(self.net.head.bias * 0.9)
""",
    "hidden_masks_change_nothing": """
    def losses(self, labelled, unlabelled, clock):
        from benchmark.engine import conformance
        return {"supervised": self.loss(labelled) * (1 + conformance.leak.masks[-1].mean())}
""",
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_negative_controls_are_caught(fault, tmp_path, monkeypatch):
    path = tmp_path / "broken.py"
    path.write_text(HEADER + FAULTS[fault])
    tried = bench(f"{path}:Broken")
    if fault == "hidden_masks_change_nothing":  # no honest interface leaks: reach for the arrays
        monkeypatch.setattr(conformance, "leak", tried.prepared, raising=False)
        assemble = conformance.assemble

        def leaky(spec, prepared, split, device):
            conformance.leak = prepared
            return assemble(spec, prepared, split, device)

        monkeypatch.setattr(conformance, "assemble", leaky)
        advance = conformance.advance

        def leaky_advance(session, first, count):
            conformance.leak = session.prepared
            return advance(session, first, count)

        monkeypatch.setattr(conformance, "advance", leaky_advance)
    complaints = dict(conformance.conformance(tried, only=(fault,)))
    assert complaints[fault], f"{fault} was not caught"
    assert "\n" not in complaints[fault]


def test_an_unlabelled_batch_has_no_mask():
    session = bench("mean_teacher").session()
    batch = session.step.batches(session.plans(0, 1)[0])["unlabelled"]
    for name in ("mask", "sdf", "boundary"):
        with pytest.raises(AttributeError, match="no mask"):
            getattr(batch, name)


def test_the_first_network_starts_equal_in_every_method_and_the_second_differs():
    first = bench("supervised").session().method.net.state_dict()
    for name, net in (("mean_teacher", "net"), ("semimoe", "nets.seg")):
        other = bench(name).session().method.get_submodule(net).state_dict()
        assert all(torch.equal(first[key], other[key]) for key in first)
    nets = bench("semimoe").session().method.nets
    assert not torch.equal(nets["seg"].head.weight, nets["bnd"].head.weight)


def test_every_method_sees_the_same_labelled_images_in_the_same_order():
    plans = [bench(name).session().plans(0, 5) for name in METHODS.names()]
    for other in plans[1:]:
        for mine, yours in zip(plans[0], other, strict=True):
            assert all(torch.equal(mine["labelled"][key], yours["labelled"][key]) for key in mine["labelled"])


def test_a_loss_that_is_not_finite_moves_nothing(tmp_path):
    path = tmp_path / "late.py"
    path.write_text(HEADER + """
    def losses(self, labelled, unlabelled, clock):
        bad = torch.where(clock.step == 3, float("nan"), 1.0)
        return {"supervised": bad * self.loss(labelled)}
""")
    session = bench(f"{path}:Broken").session()
    conformance.advance(session, 0, 3)
    parameters = [p.detach().clone() for p in session.method.parameters()]
    rows = conformance.advance(session, 3, 2)
    assert math.isnan(rows[0]["supervised"])
    assert all(torch.equal(a, b) for a, b in zip(parameters, session.method.parameters(), strict=True))


def test_terms_must_keep_their_names(tmp_path):
    path = tmp_path / "names.py"
    path.write_text(HEADER + """
    def losses(self, labelled, unlabelled, clock):
        return {"a" if clock.step < 1 else "b": self.loss(labelled)}
""")
    session = bench(f"{path}:Broken").session()
    with pytest.raises(UserError, match="other terms"):
        conformance.advance(session, 0, 2)


def test_a_method_is_a_module_with_documented_origin():
    for entry in METHODS.entries():
        assert issubclass(METHODS.load(entry.name), Method)
        assert entry.year and entry.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.batch_unlabelled": 1}, "CutMix needs a second image"),
        ({"train.batch_labelled": 1, "data.size": 16}, "BatchNorm cannot work on one value a channel"),
        ({"data.size": 40}, "sides must be multiples of 16, such as 32 or 48"),
        ({"method.threshold": 1.5}, r"method\.threshold must lie in \[0, 1\], not 1\.5"),
    ],
)
def test_what_cannot_work_is_told_before_training_starts(overrides, message):
    with pytest.raises(UserError, match=message):
        bench("fixmatch", **overrides).session()
