"""Over a run neither the tensors that are alive nor the time of a step grow."""

import gc

import numpy as np
import pytest

from benchmark.profiling.profile import LiveTensors
from benchmark.runs.run_files import RunFolder
from benchmark.training import trainer
from tests.factories import method_testbed
from tools.bench.steady import resident_bytes, slope

pytestmark = pytest.mark.slow


def run(method, blocks, folder, watch):
    """A whole run of so many blocks with three evaluations, and a checkpoint after every block."""
    small = {"train__batch_labelled": 2, "train__batch_unlabelled": 2, "evaluate__times": 3}
    training = method_testbed(method, train__steps=trainer.BLOCK * blocks, **small).build()
    kept = RunFolder(folder, training.spec)
    with kept.locked():
        trainer.train(training, kept, tell=lambda *_: watch(training), checkpoint_seconds=0.0)


def test_as_many_bytes_of_tensors_are_alive_after_every_block(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "BLOCK", 3)  # watching every operation takes long
    alive = []
    with LiveTensors() as live:

        def look(_):
            gc.collect()
            alive.append(live.now)

        run("mean_teacher", 3, tmp_path, look)
    evaluation = 2 * 2 * 2 * 100 * 8  # what one leaves for good: int64 counts by output, class, error and confidence
    assert len(alive) == 3 and alive[2] - alive[0] <= 2 * evaluation


def test_the_process_does_not_grow(tmp_path):
    """By the kernel's count, over the last two thirds of a run: half a megabyte a step would be 32."""
    seen = []
    run("supervised", 6, tmp_path, lambda _: seen.append(resident_bytes()))
    assert max(seen[2:]) - seen[2] < 24 * 2**20


def test_the_drift_of_step_times_is_the_slope_of_a_line():
    steps = np.arange(40.0)
    noise = np.random.default_rng(0).normal(0, 0.01, 40)
    drift, error = slope(steps, 1 + 0.2 * steps / 39 + noise)
    assert drift == pytest.approx(0.2 / 1.1, abs=4 * error) and error < 0.01
    assert abs(slope(steps, 1 + noise)[0]) < 4 * slope(steps, 1 + noise)[1]
