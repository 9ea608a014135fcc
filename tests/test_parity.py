"""The comparison with released code, on a script made here; and its figures."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from benchmark.losses import IGNORE
from benchmark.registry import METHODS
from tests.batches import softmax
from tools.methods_page import PARITY
from tools.parity.released import Released, Replayed, batch_dice, on_the_cpu, row

SCRIPT = """
import a_module_that_is_not_installed

def halved(value):
    return value / 2

def train():
    for image, mask in loader:
        logits = model(image.cuda())
        loss = halved((logits - mask).square().mean()) + torch.zeros(1).cuda()
        optimizer.zero_grad()
        loss = None
"""


def test_a_released_step_is_run_up_to_its_optimiser_on_the_cpu_in_double_precision(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    script, net = Released(tmp_path / "train.py"), Replayed(torch.full((2,), 3.0))
    script.take("halved")
    with on_the_cpu():
        step = script.step("train", loader=[(torch.ones(2), torch.ones(2))], model=net)
    assert step.loss.item() == 2 and step.loss.dtype == torch.float64 and len(net.seen) == 1
    assert torch.zeros(1).dtype == torch.float32
    with pytest.raises(LookupError):
        script.step("halved")


def test_a_row_has_the_largest_difference_and_not_that_of_the_means():
    found = row("x", torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    assert found.released == found.ours == 0.5 and found.apart == 1


def test_the_dice_of_a_whole_batch_agrees_with_numpy():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 5, generator=generator)
    target = torch.randint(0, 3, (2, 5, 5), generator=generator)
    target[0, 0] = IGNORE
    p, y = softmax(logits), target.numpy()
    for numerator in (1.0, 2.0):
        parts = []
        for kind in (1, 2):
            inside, chance = (y == kind)[y != IGNORE], p[:, kind][y != IGNORE]
            overlap, mass = (inside * chance).sum(), inside.sum() + (chance**2).sum()
            parts.append(1 - (numerator * overlap + 0.1 * (numerator == 2)) / (mass + 0.1))
        found = batch_dice(numerator=numerator, smooth=0.1, first=1)(logits, target).item()
        assert found == pytest.approx(np.mean(parts), rel=1e-5)


def test_every_figure_agrees_to_5_digits_or_has_a_reason_and_whole_losses_are_among_those_that_agree():
    figures = json.loads(PARITY.read_text())
    assert set(figures) <= set(METHODS.names()) and len(figures) >= 6
    for name, found in figures.items():
        assert re.fullmatch("[0-9a-f]{40}", found["commit"]) and found["repository"].count("/") == 1
        assert all((row["apart"] > 1e-5) == bool(row["why"]) for row in found["rows"]), name
        assert any(row["what"].startswith("L") and not row["why"] for row in found["rows"]), name


def test_the_figures_are_of_the_methods_as_they_are():
    for name, found in json.loads(PARITY.read_text()).items():
        now = METHODS.load(name).numerics
        assert found["numerics"] == now, (
            f"{name} was compared with its released code at numerics {found['numerics']} and is at {now} now: "
            "measure again (`python -m tools.parity FOLDER`)"
        )
