"""The contract of a method: an `nn.Module` whose parameters and buffers are all that it remembers.

A method says which views it wants, returns its losses, and predicts. Optimising, seeding, checkpoints, resume,
evaluation, records and speed are the harness's. `new method` writes one to start from.
"""

from __future__ import annotations

import math
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

__all__ = [
    "Batch", "Clock", "Logits", "Losses", "Method", "NotApplicable", "ParamGroup", "Parts", "Ramp", "Task",
    "named_logits", "require", "require_between", "require_share", "suggest",
]

Parts = Iterator[Mapping[str, Tensor]]
Losses = Mapping[str, Tensor] | Parts
Logits = Tensor | Mapping[str, Tensor]
Ramp = Literal["linear", "sigmoid", "constant"]


def require(condition: bool, message: str) -> None:
    """Refuse a hyper-parameter's value, in one line, before anything is trained."""
    if not condition:
        raise UserError(message)


def require_between(low: float, high: float, /, **values: float) -> None:
    """Refuse hyper-parameters, given by name, that lie outside [low, high]."""
    bounds = f"be at least {low:g}" if math.isinf(high) else f"lie in [{low:g}, {high:g}]"
    for name, value in values.items():
        require(low <= value <= high, f"method.{name} must {bounds}, not {value}")


def require_share(**values: float) -> None:
    """Refuse hyper-parameters, given by name, that lie outside [0, 1): rates of dropout."""
    for name, value in values.items():
        require(0 <= value < 1, f"method.{name} must lie in [0, 1), not {value}")


@dataclass
class Task:
    """What a method is told of its work: counts, sizes, and how to build networks and supervised losses.

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
            torch.manual_seed(derive(self.seed, "network", self._built))
            self._built += 1
            yield

    def criterion(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The configured supervised loss (`train.loss`), the same for every method."""
        return CRITERIA[self.loss](logits, mask)


class Clock:
    """How far training is, as 0-dim tensors on the device, so that a captured graph reads them afresh at every step."""

    def __init__(self, steps: int, device: torch.device | str = "cpu", steps_an_epoch: int = 1) -> None:
        self.steps, self.steps_an_epoch = steps, steps_an_epoch
        self.step = torch.zeros((), device=device)
        self.stopped = torch.zeros((), dtype=torch.bool, device=device)

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

    def linear(self, until: float = 1.0) -> Tensor:
        """The linear ramp."""
        return self.ramp("linear", until)

    def ema(self, decay: float, ema_step: EmaStep = "iteration") -> Tensor:
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


class Method(nn.Module):
    """A semi-supervised method. Its keyword-only constructor arguments are its hyper-parameters and their defaults."""

    display: str = ""  # the name in tables and figures, as the paper writes it; default: the method's name
    views: Mapping[str, tuple[str, ...]] = {"labelled": ("weak",)}
    targets: tuple[str, ...] = ()
    phases: Mapping[str, float] = {"train": 0.0}
    cuda_graph: bool = True
    cuda_graph_reason: str = ""  # why it is not, told to the user
    phase: str = "train"  # the phase that the current step belongs to; set by the harness
    later: Mapping[str, Any] = {}  # hyper-parameters added after runs were recorded -> the value that changes nothing
    numerics: int = 1  # bump when the same specification no longer gives the same numbers

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, Tensor] = {}

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        """Named scalars whose sum is minimised, or a generator of such parts, each back-propagated at once.

        A part's activations are freed before the next part is computed. `unlabelled` has no masks,
        and is None for a method whose `views` name no such stream.
        """
        raise NotImplementedError

    def predict(self, image: Tensor) -> Logits:
        """Logits [B, C, H, W] of normalised images [B, 3, H, W], or several by name, the official first."""
        raise NotImplementedError

    def after_step(self, clock: Clock) -> None:
        """What happens after the optimiser's step: moving averages, memories."""

    def param_groups(self) -> list[ParamGroup]:
        """What is optimised, and how."""
        return [ParamGroup(parameter for parameter in self.parameters() if parameter.requires_grad)]

    def log(self, name: str, value: Tensor) -> None:
        """Log a scalar beside the losses."""
        self.logged[name] = value.detach()


def named_logits(prediction: Logits) -> dict[str, Tensor]:
    """`predict`'s answer by name; one unnamed output is called `prediction`."""
    return {"prediction": prediction} if isinstance(prediction, Tensor) else dict(prediction)
