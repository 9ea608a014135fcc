"""TopoSemiSeg's mechanism; persistence has tests of its own."""

import numpy as np
import pytest
import torch

from benchmark.batches.batch import Batch
from benchmark.method import Clock, Phase
from methods._persistence import topological_terms
from methods.toposemiseg import TopoSemiSeg, foregrounds
from tests.batches import assert_teacher_follows, batch, calls, softmax, task, terms, unlabelled


def two_views():
    """An unlabelled batch and its change of colour."""
    weak = unlabelled().weak
    return Batch(torch.arange(len(weak)), weak=weak, photometric=1.3 * weak - 0.2)


def in_phase(name, **more):
    method = TopoSemiSeg(task(), **more)
    method.phase = name
    return method


def test_student_sees_the_photometric_view_and_teacher_the_weak_one():
    method, labelled, data = TopoSemiSeg(task()), batch(), two_views()
    student, teacher = calls(method.net), calls(method.teacher.net)
    terms(method, labelled, data, Clock(10))
    assert [id(image) for image, _ in student] == [id(labelled.weak), id(data.photometric)]
    assert [id(image) for image, _ in teacher] == [id(data.weak)]


@pytest.mark.parametrize("ramp", ["sigmoid", "constant"])
def test_pixel_consistency_is_the_cross_entropy_to_the_teacher_s_probabilities_times_its_ramp(ramp):
    method, clock, data = TopoSemiSeg(task(), weight=0.3, ramp=ramp), Clock(10), two_views()
    clock.step.fill_(4)
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.mul_(1.1)
        student, teacher = (softmax(net(image)) for net, image in (
            (method.net, data.photometric), (method.teacher, data.weak)))
    share = np.exp(-5 * 0.6**2) if ramp == "sigmoid" else 1.0
    expected = 0.3 * share * -(teacher * np.log(student)).sum(1).mean()
    assert terms(method, batch(), data, clock)["consistency"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("start", "phases"),
    [(0.8, {"pixels": 0.0, "topology": 0.8}), (0.0, {"topology": 0.0}), (1.0, {"pixels": 0.0})],
)
def test_topology_begins_at_the_chosen_share_of_training_at_once_or_never(start, phases):
    method = TopoSemiSeg(task(), start=start)
    assert {name: phase.start for name, phase in method.phases.items()} == phases
    topology = {"topology", "noise"} if start == 0 else set()
    assert set(terms(method, batch(), two_views(), Clock(10))) == {"supervised", "consistency"} | topology
    assert TopoSemiSeg.phases == {"train": Phase(0.0)}  # the class keeps the default


@pytest.mark.parametrize("released", [False, True])
def test_topology_compares_the_foregrounds_of_student_and_teacher(released):
    method = in_phase("topology", topology=0.5, tile=20, signal=0.3, released_targets=released)
    data = two_views()
    found = terms(method, batch(), data, Clock(10))
    maps = [net(image).softmax(1)[:, 1] for net, image in ((method.net, data.photometric), (method.teacher, data.weak))]
    expected = topological_terms(*maps, signal=0.3, tile=20, released=released)
    for name, value in zip(("topology", "noise"), expected, strict=True):
        assert found[name].item() == pytest.approx(0.5 * value.item(), rel=1e-5)
    assert sum(expected) > 0


def test_teacher_lags_behind_the_student():
    assert_teacher_follows(in_phase("topology", decay=0.9), two_views())


def test_of_three_classes_each_is_compared_with_the_rest_and_the_mean_taken():
    torch.manual_seed(0)
    student, teacher = (torch.randn(2, 3, 24, 24).mul(3).softmax(1) for _ in range(2))
    together = topological_terms(foregrounds(student), foregrounds(teacher))
    apart = [topological_terms(student[:, kind], teacher[:, kind]) for kind in (1, 2)]
    for place, both in enumerate(together):
        assert both > 0
        torch.testing.assert_close(both, (apart[0][place] + apart[1][place]) / 2)
