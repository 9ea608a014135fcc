"""Methods that break the contract, each in its own way: `check` must catch every one of them, and say where."""

from __future__ import annotations

import random
import sys

import numpy as np
import torch
from torch import nn

from benchmark.ema import Teacher
from benchmark.losses import cross_entropy, pseudo_label
from benchmark.method import Method, ParamGroup, Task
from benchmark.paths import prepared_folder

CALLS = [0]


class Honest(Method):
    """Nobody 2026: nothing is wrong with it."""

    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.net = task.network()
        self.register_buffer("mean", torch.zeros(()))
        self.begin()

    def begin(self):
        """What some keep."""

    def loss(self, labelled):
        return self.task.criterion(self.net(labelled.weak), labelled.mask)

    def factor(self, labelled, unlabelled, clock):
        """What most of the faults are in: the loss is multiplied with it."""
        return 1

    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.loss(labelled) * self.factor(labelled, unlabelled, clock)}

    def predict(self, image):
        return self.net(image)


def above(name):
    """A variable of the harness, dug out of the call stack: what no method may do."""
    frame = sys._getframe()
    while name not in frame.f_locals or frame.f_globals is globals():
        frame = frame.f_back
    return frame.f_locals[name]


class TakesUnknownPixelsForBackground(Honest):
    def loss(self, labelled):
        return self.task.criterion(self.net(labelled.weak), (labelled.mask == 1).long())


class CountsInAnAttribute(Honest):
    calls = 0

    def factor(self, labelled, unlabelled, clock):
        self.calls += 1
        return self.calls


class CountsInTheClass(Honest):
    calls = 0

    def factor(self, labelled, unlabelled, clock):
        CountsInTheClass.calls += 1
        return 1


class CountsInAGlobal(Honest):
    def factor(self, labelled, unlabelled, clock):
        CALLS[0] += 1
        return 1 + CALLS[0] / 100


class RemembersImages(Honest):
    def begin(self):
        self.seen = {}

    def factor(self, labelled, unlabelled, clock):
        with torch.no_grad():
            self.seen[len(self.seen)] = self.net(unlabelled.weak).mean()
        return 1


class DrawsFromItsOwnGenerator(Honest):
    def begin(self):
        self.generator = torch.Generator().manual_seed(0)

    def factor(self, labelled, unlabelled, clock):
        return 1 + torch.rand((), generator=self.generator)


class DrawsFromPythonsGenerator(Honest):
    def factor(self, labelled, unlabelled, clock):
        return 1 + random.random()


class DrawsFromNumpysGenerator(Honest):
    def factor(self, labelled, unlabelled, clock):
        return 1 + np.random.rand()


class SeedsTorch(Honest):
    def factor(self, labelled, unlabelled, clock):
        torch.manual_seed(0)
        return 1


class SeesImagesForTesting(Honest):
    def factor(self, labelled, unlabelled, clock):
        return 1 + float(above("training").prepared.images[-1].mean())


class SeesHiddenMasks(Honest):
    def factor(self, labelled, unlabelled, clock):
        training = above("training")
        return 1 + float(training.prepared.masks[training.prepared.position(training.split.unlabelled[0])][:16].mean())


class OpensPreparedArrays(Honest):
    def begin(self):
        self.hint = float(np.load(prepared_folder() / "synthetic" / "32" / "masks.npy").mean())

    def factor(self, labelled, unlabelled, clock):
        return self.hint


class ChangesItsBatch(Honest):
    def factor(self, labelled, unlabelled, clock):
        unlabelled.weak.mul_(0.9)
        return 1


class LeavesEvaluationMode(Honest):
    def factor(self, labelled, unlabelled, clock):
        self.net.eval()
        return 1


class PredictsInTrainingMode(Honest):
    def predict(self, image):
        self.net.train()
        with torch.no_grad():
            return self.net(image)


class FreezesOnTheWay(Honest):
    def after_step(self, clock):
        next(self.net.parameters()).requires_grad_(False)


class ReplacesABuffer(Honest):
    def after_step(self, clock):
        self.mean = self.mean + 1


class AsksTheHost(Honest):
    def factor(self, labelled, unlabelled, clock):
        return 1 if labelled.weak.sum().item() > 0 else 2


class DividesByZero(Honest):
    def factor(self, labelled, unlabelled, clock):
        return 1 / (clock.step - 2)


class HasAnInfiniteGradient(Honest):
    def losses(self, labelled, unlabelled, clock):
        bias = self.net.head.bias
        return {"supervised": self.loss(labelled), "root": (bias - bias.detach()).square().sum().sqrt()}


class CannotBearEmptyMasks(Honest):
    def factor(self, labelled, unlabelled, clock):
        known = (labelled.mask == 1).sum()
        return known / known


class ForgetsToMix(Honest):
    """Half of the pasted rectangles are taught the label of what they hide."""

    views = {"labelled": ("weak",), "unlabelled": ("weak", "strong")}

    def losses(self, labelled, unlabelled, clock):
        with torch.no_grad():
            label = pseudo_label(self.net(unlabelled.weak), 0.99)
        return {"supervised": self.loss(labelled), "strong": cross_entropy(self.net(unlabelled.strong), label)}


class TeachesNothing(Honest):
    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.loss(labelled).detach()}


class TeachesAPart(Honest):
    def losses(self, labelled, unlabelled, clock):
        logits = self.net(labelled.weak).detach() + self.net.head.bias.view(1, -1, 1, 1)
        return {"supervised": self.task.criterion(logits, labelled.mask)}


class TrainsWhatItDoesNotHave(Honest):
    def begin(self):
        self.extra = [nn.Parameter(torch.ones(()))]

    def factor(self, labelled, unlabelled, clock):
        return self.extra[0]

    def param_groups(self):
        return [ParamGroup([*self.parameters(), *self.extra])]


class TrainsItsTeacher(Honest):
    def begin(self):
        self.teacher = Teacher(self.net)
        self.teacher.net = self.net


class KeepsAPlainTensor(Honest):
    def begin(self):
        self.kernels = {"blur": torch.ones(1, 1, 3, 3)}


class KeepsNetworksInAList(Honest):
    def begin(self):
        self.experts = [self.task.network()]


class PredictsWithWhatIsNotTrained(Honest):
    def begin(self):
        self.other = self.task.network().requires_grad_(False)

    def predict(self, image):
        return self.other(image)


class PredictsByChance(Honest):
    def predict(self, image):
        return self.net(image) + torch.rand(1)


class PredictsByTheBatch(Honest):
    def predict(self, image):
        return self.net(image - image.mean())


class PredictsOneClass(Honest):
    def predict(self, image):
        return self.net(image)[:, :1]


class PredictsNoNumbers(Honest):
    def predict(self, image):
        return self.net(image) / 0


class PredictsALoss(Honest):
    def predict(self, image):
        return {"prediction": 0.5}


class GivesANumber(Honest):
    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.loss(labelled), "weight": 0.5}


class GivesALossOfEveryPixel(Honest):
    def losses(self, labelled, unlabelled, clock):
        return {"supervised": self.net(labelled.weak)}


class Raises(Honest):
    def factor(self, labelled, unlabelled, clock):
        return {}["nothing"]
