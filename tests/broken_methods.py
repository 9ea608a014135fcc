"""Methods that break the contract, each in its own way: `check` must catch every one of them, and say where."""

import random
import sys

import numpy as np
import torch
from torch import nn

from benchmark.data.load import load_prepared
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


def honest_but(name, **methods):
    """`Honest` but for these methods, often a `factor` that the loss is multiplied with."""
    return type(name, (Honest,), methods)


def above(name):
    """A variable of the harness, dug out of the call stack: what no method may do."""
    frame = sys._getframe()
    while name not in frame.f_locals or frame.f_globals is globals():
        frame = frame.f_back
    return frame.f_locals[name]


def unknown_as_background(self, labelled):
    return self.task.criterion(self.net(labelled.weak), (labelled.mask == 1).long())


TakesUnknownPixelsForBackground = honest_but("TakesUnknownPixelsForBackground", loss=unknown_as_background)


# State outside parameters and buffers


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


ReplacesABuffer = honest_but("ReplacesABuffer", after_step=lambda self, clock: setattr(self, "mean", self.mean + 1))
KeepsAPlainTensor = honest_but(
    "KeepsAPlainTensor", begin=lambda self: setattr(self, "kernels", {"blur": torch.ones(1, 1, 3, 3)}))
KeepsNetworksInAList = honest_but(
    "KeepsNetworksInAList", begin=lambda self: setattr(self, "experts", [self.task.network()]))

# Chance

DrawsFromItsOwnGenerator = honest_but(
    "DrawsFromItsOwnGenerator", begin=lambda self: setattr(self, "generator", torch.Generator().manual_seed(0)),
    factor=lambda self, *_: 1 + torch.rand((), generator=self.generator))
DrawsFromPythonsGenerator = honest_but("DrawsFromPythonsGenerator", factor=lambda *_: 1 + random.random())
DrawsFromNumpysGenerator = honest_but("DrawsFromNumpysGenerator", factor=lambda *_: 1 + np.random.rand())
SeedsTorch = honest_but("SeedsTorch", factor=lambda *_: bool(torch.manual_seed(0)))

# What is hidden


def hidden_mask(self, *_):
    training = above("training")
    return 1 + float(training.prepared.masks[training.prepared.position(training.split.unlabelled[0])][:16].mean())


def prepared_masks(self):
    self.hint = float(np.load(prepared_folder() / "synthetic" / "32" / "masks.npy").mean())


def loaded_masks(self):
    self.hint = float(load_prepared("synthetic", 32).masks.mean())


SeesImagesForTesting = honest_but(
    "SeesImagesForTesting", factor=lambda *_: 1 + float(above("training").prepared.images[-1].mean()))
SeesHiddenMasks = honest_but("SeesHiddenMasks", factor=hidden_mask)
OpensPreparedArrays = honest_but("OpensPreparedArrays", begin=prepared_masks, factor=lambda self, *_: self.hint)
LoadsPreparedData = honest_but("LoadsPreparedData", begin=loaded_masks, factor=lambda self, *_: self.hint)
ChangesItsBatch = honest_but(
    "ChangesItsBatch", factor=lambda self, labelled, unlabelled, clock: 1 + 0 * unlabelled.weak.mul_(0.9).mean())

# Modes


class PredictsInTrainingMode(Honest):
    def predict(self, image):
        self.net.train()
        with torch.no_grad():
            return self.net(image)


LeavesEvaluationMode = honest_but("LeavesEvaluationMode", factor=lambda self, *_: bool(self.net.eval()))
FreezesOnTheWay = honest_but(
    "FreezesOnTheWay", after_step=lambda self, clock: next(self.net.parameters()).requires_grad_(False))

# Losses


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


class TeachesAPart(Honest):
    def losses(self, labelled, unlabelled, clock):
        logits = self.net(labelled.weak).detach() + self.net.head.bias.view(1, -1, 1, 1)
        return {"supervised": self.task.criterion(logits, labelled.mask)}


AsksTheHost = honest_but("AsksTheHost", factor=lambda self, labelled, *_: 1 if labelled.weak.sum().item() > 0 else 2)
DividesByZero = honest_but("DividesByZero", factor=lambda self, labelled, unlabelled, clock: 1 / (clock.step - 2))
TeachesNothing = honest_but(
    "TeachesNothing", losses=lambda self, labelled, *_: {"supervised": self.loss(labelled).detach()})
GivesANumber = honest_but(
    "GivesANumber", losses=lambda self, labelled, *_: {"supervised": self.loss(labelled), "weight": 0.5})
GivesALossOfEveryPixel = honest_but(
    "GivesALossOfEveryPixel", losses=lambda self, labelled, *_: {"supervised": self.net(labelled.weak)})
Raises = honest_but("Raises", factor=lambda *_: {}["nothing"])

# Parameters


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


# Predictions

PredictsWithWhatIsNotTrained = honest_but(
    "PredictsWithWhatIsNotTrained", predict=lambda self, image: self.other(image),
    begin=lambda self: setattr(self, "other", self.task.network().requires_grad_(False)))
PredictsByChance = honest_but("PredictsByChance", predict=lambda self, image: self.net(image) + torch.rand(1))
PredictsByTheBatch = honest_but("PredictsByTheBatch", predict=lambda self, image: self.net(image - image.mean()))
PredictsOneClass = honest_but("PredictsOneClass", predict=lambda self, image: self.net(image)[:, :1])
PredictsNoNumbers = honest_but("PredictsNoNumbers", predict=lambda self, image: self.net(image) / 0)
PredictsALoss = honest_but("PredictsALoss", predict=lambda self, image: {"prediction": 0.5})
NamesNoOutput = honest_but("NamesNoOutput", labels_from="teacher")
