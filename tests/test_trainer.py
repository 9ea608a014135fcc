"""The training loop: when it evaluates, and where it ends."""

import pytest

from benchmark.profiling.profile import Nowhere
from benchmark.training.trainer import evaluation_steps, train
from tests.factories import method_testbed


@pytest.mark.parametrize(("steps", "times"), [(2, 3), (3, 20), (7, 40), (12, 5), (1, 1), (3400, 40)])
def test_the_last_evaluation_is_the_last_step_and_there_are_as_many_as_fit(steps, times):
    found = evaluation_steps(steps, times)
    assert found[-1] == steps and len(found) == min(steps, times) and found == sorted(set(found)) and found[0] > 0


def test_a_run_of_fewer_steps_than_evaluations_ends():
    training = method_testbed("supervised", train__steps=3, evaluate__times=20, evaluate__objects=False).build()
    result = train(training, Nowhere())
    assert result.status == "done" and result.counts["steps"].tolist() == [1, 2, 3]
