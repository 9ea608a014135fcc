"""The contract of a method: an `nn.Module` whose parameters and buffers are all that it remembers.

A method says which views it wants, returns its losses, and predicts. Optimising, seeding, checkpoints, resume,
evaluation, records and speed are the harness's. `new method` writes one to start from.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmark.batches.batch import Batch
from benchmark.ema import EmaStep
from benchmark.errors import NotApplicable, UserError, suggest
from benchmark.losses import CRITERIA, RAMPS
from benchmark.nets import build
from benchmark.nets.network import Network
from benchmark.randomness import derive
from benchmark.ranges import Choice, Linear

__all__ = [
    "Batch", "Clock", "Logits", "Losses", "Method", "NotApplicable", "ParamGroup", "Parts", "Phase", "Ramp", "Task",
    "UserError", "named_logits", "require", "suggest", "two_phases",
]

Parts = Iterator[Mapping[str, Tensor]]
Losses = Mapping[str, Tensor] | Parts
Logits = Tensor | Mapping[str, Tensor]
Ramp = Literal["linear", "sigmoid", "constant"]


def require(condition: bool, message: str) -> None:
    """Refuse hyper-parameters that do not go together, in one line, before anything is trained."""
    if not condition:
        raise UserError(message)


@dataclass
class Task:
    """What a method knows of its work: counts, sizes, and how to build networks and supervised losses.

    `labelled`, `unlabelled`: numbers of training images; `images`: rows of the prepared arrays, for per-image memory;
    `mean`, `std`: the statistics that images [0, 1] were normalised with.
    """

    classes: int
    size: int
    labelled: int
    unlabelled: int
    images: int
    seed: int = 0
    net: str = "unet"
    weights: str | None = None
    loss: str = "ce_dice"
    channels: int = 3
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    _built: int = field(default=0, repr=False)
    _phase: str = field(default="", repr=False)

    def network(self, classes: int | None = None, *, net: str | None = None) -> Network:
        """A new network of the configured kind, or of the kind `net`, with `classes` outputs (default: the task's).

        Seeded by (seed, ordinal): the first network starts equal in every method, the second differs from it.
        Pretrained weights are for the configured kind alone.
        """
        name, weights = (self.net, self.weights) if net is None else (net, None)
        outputs = self.classes if classes is None else classes
        with self.init_seed():
            return build(name, channels=self.channels, classes=outputs, weights=weights, size=self.size)

    @contextmanager
    def init_seed(self) -> Iterator[None]:
        """PyTorch's generator at the next ordinal's seed: for a method that builds a network of its own."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "network", *([self._phase] if self._phase else []), self._built))
            self._built += 1
            yield

    def begin_phase(self, name: str) -> None:
        """By the harness: networks that are built from now on are seeded by (seed, phase, ordinal)."""
        self._phase, self._built = name, 0

    def criterion(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The configured supervised loss (`train.loss`), the same for every method."""
        return CRITERIA[self.loss](logits, mask)


class Clock:
    """How far training is, as 0-dim tensors on the device, so that a captured graph reads them afresh at every step."""

    def __init__(self, steps: int, device: torch.device | str = "cpu", steps_an_epoch: int = 1) -> None:
        self.steps, self.steps_an_epoch = steps, steps_an_epoch
        self.phase_steps = range(steps)  # of the current phase; set by the harness
        self.step = torch.zeros((), device=device)
        self.stopped = torch.zeros((), dtype=torch.bool, device=device)

    def at(self, step: Tensor) -> Clock:
        """This clock with another count of steps, such as the updates of a network that not every step updates."""
        clock = copy.copy(self)
        clock.step = step
        return clock

    @property
    def in_phase(self) -> Clock:
        """The clock of the current phase alone: its ramps and averages begin and end with the phase."""
        clock = self.at(self.step - self.phase_steps.start)
        clock.steps = len(self.phase_steps)
        return clock

    @property
    def fraction(self) -> Tensor:
        """Steps done over all steps, in [0, 1)."""
        return self.step / self.steps

    def ramp(self, kind: Ramp = "linear", until: float = 1.0) -> Tensor:
        """From near 0 to 1, reached at the share `until` of all steps.

        `linear`: (step + 1) / (until * steps), never 0, as in the XNet code base; `sigmoid`:
        exp(-5 (1 - step / (until * steps))^2), as in SSL4MIS; `constant`: 1.
        """
        done = self.step + 1 if kind == "linear" else self.step
        return RAMPS[kind](done / (until * self.steps))

    def ema(self, decay: float | Tensor, ema_step: EmaStep = "iteration") -> Tensor:
        """min(1 - 1 / (t + 1), decay), t counted in iterations, or in whole epochs as in the XNet code base.

        While t = 0 an update copies. 1 once a loss was not finite: nothing more moves.
        """
        t = self.step if ema_step == "iteration" else (self.step / self.steps_an_epoch).floor()
        return torch.where(self.stopped, 1.0, (1 - 1 / (t + 1)).clamp(max=decay))


@dataclass
class ParamGroup:
    """Parameters with an optimiser of their own; what is None comes from the `optimiser` section."""

    parameters: Iterable[nn.Parameter]
    optimiser: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None


@dataclass(frozen=True)
class Phase:
    """A stage of training: the share of all steps at which it starts, and what begins anew with it.

    `fresh_optimiser`: moments are forgotten; `fresh_schedule`: warm-up and schedule of the learning rates run anew,
    until the next phase that has one. Weights stay; `Method.begin_phase` may replace them.
    """

    start: float
    fresh_optimiser: bool = False
    fresh_schedule: bool = False


def two_phases(first: str, second: str, start: float) -> dict[str, Phase]:
    """Two stages of which the second starts at a share of all steps; at 0 or 1 there is one of them."""
    phases = {first: Phase(0.0), second: Phase(start)}
    return {name: phases[name] for name in (first,) * (start > 0) + (second,) * (start < 1)}


class Method(nn.Module):
    """A semi-supervised method. Its keyword-only constructor arguments are its hyper-parameters and their defaults."""

    display: str = ""  # the name in tables and figures, as the paper writes it; default: the method's name
    views: Mapping[str, tuple[str, ...]] = {"labelled": ("weak",)}
    targets: tuple[str, ...] = ()
    mixes_labels: bool = True  # False: no label of the weak view is compared with a strong one, so none needs `cutmix`
    phases: Mapping[str, Phase] = {"train": Phase(0.0)}
    phase: str = "train"  # the phase that the current step belongs to; set by the harness, for `losses` alone
    task: Task  # set by the harness, once the method is built
    of_images: tuple[str, ...] = ()  # buffers that hold something of each training image: exports leave them out
    labels_from: str = ""  # the output of `predict` that sets the targets; default: the second, or the only one
    cuda_graph: bool = True
    cuda_graph_reason: str = ""  # why a step cannot be captured, for the user
    tuning: Mapping[str, Linear | Choice] = {}  # hyper-parameter -> what `tune` draws it from
    later: Mapping[str, Any] = {}  # hyper-parameters added after runs were recorded -> the value that changes nothing
    numerics: int = 1  # bump when the same specification no longer gives the same numbers

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, Tensor] = {}

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        """Named scalars whose sum is minimised, or a generator of such parts, each back-propagated at once.

        A part's activations are freed before the next part is computed. `unlabelled` has no masks, and is None for a
        method whose `views` name no such stream.
        """
        raise NotImplementedError

    def predict(self, image: Tensor) -> Logits:
        """Logits [B, C, H, W] of normalised images [B, 3, H, W], or several by name, the official first.

        The second, or the one that `labels_from` names, is taken for the one that sets the targets (`diagnose`).
        """
        raise NotImplementedError

    def after_step(self, clock: Clock) -> None:
        """What happens after the optimiser's step: moving averages, memories."""

    def begin_phase(self, name: str, images: Mapping[str, Iterable[Batch]]) -> None:
        """What happens before the first step of a phase: once, also in a run that is interrupted and continued.

        Parameters and buffers are changed in place, as in `self.net.load_state_dict(self.task.network().state_dict())`
        for a fresh network, or `self.pseudo_mask[batch.index] = ...` for new labels. `images[stream]` goes over a
        stream's images once, in batches that are not augmented, with `weak`, and `mask` where they are labelled.
        """

    def param_groups(self) -> list[ParamGroup]:
        """What is optimised, and how."""
        return [ParamGroup(parameter for parameter in self.parameters() if parameter.requires_grad)]

    def log(self, name: str, value: Tensor) -> None:
        """Log a scalar beside the losses."""
        self.logged[name] = value.detach()


def named_logits(prediction: Logits) -> dict[str, Tensor]:
    """`predict`'s answer by name; one unnamed output is called `prediction`."""
    return {"prediction": prediction} if isinstance(prediction, Tensor) else dict(prediction)
