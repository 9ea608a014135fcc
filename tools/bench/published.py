"""Steps a second beside a plain loop in the published style, on the same device, network, batch and images.

    python -m tools.bench.published [--size 96] [--net unet_small] [--steps 72] [--rounds 3] [--seeds 5] [--device cpu]

The plain loop is written from what the published code of this field does: float32; loaders whose worker processes read,
turn and normalise one sample after the other, compute its boundary and signed distance whether or not the method wants
them, and are started anew every epoch; two backward passes with both graphs kept; an average of weights parameter by
parameter; the losses read by the host in every step, the cache emptied; on a GPU deterministic kernels without
autotuning and TF32. Both train a mean teacher on the generated set
with the same settings, and take turns, round by round, after a first round that is not timed. A round is whole epochs
of the plain loop, so that it starts its loaders once an epoch, as it would alone; their start is counted. With --seeds
the mean supervised loss of the last quarter of training is compared over so many seeds. Peak memory: on a GPU the
allocator's, less what the other holds meanwhile; on a CPU that of the tensors alive in one step.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset

from benchmark.data.load import load_prepared
from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.profiling.profile import BareStep, LiveTensors, held
from benchmark.runs.request import Request, specify
from benchmark.spec import Spec
from benchmark.training import device as devices
from benchmark.training.setup import Training, build_training
from tools.bench.render import sample
from tools.command import at_least, run

BATCH, LR, WEIGHT, DECAY, NOISE = 4, 5e-4, 5.0, 0.99, 0.1
WORKERS = 2


class Samples(Dataset):
    """Reads, turns and normalises one image at a time, and computes its targets."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, place: int) -> tuple[Tensor, ...]:
        image, mask = (Image.open(self.folder / f"{self.names[place]}{end}.png") for end in ("", "_anno"))
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        return sample(np.asarray(image), np.asarray(mask), rng)


def soft_dice(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - Dice, mean over samples and the two classes."""
    probability = logits.softmax(1)
    truth = nn.functional.one_hot(mask, 2).movedim(-1, 1).float()
    overlap = (probability * truth).sum((2, 3))
    return 1 - ((2 * overlap + 1) / ((probability**2).sum((2, 3)) + (truth**2).sum((2, 3)) + 1)).mean()


class PlainLoop:
    """A mean teacher as one would write it in an afternoon."""

    def __init__(self, folder: Path, split: Split, net: nn.Module, steps: int, device: torch.device):
        self.net, self.teacher = net.to(device), copy.deepcopy(net).to(device)
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=LR, weight_decay=0.01)
        longer = len(split.unlabelled)  # the labelled list is repeated to the length of the other
        self.labelled = Samples(folder, tuple(islice(cycle(split.labelled), longer)))
        self.unlabelled = Samples(folder, split.unlabelled)
        self.steps, self.done, self.device = steps, 0, device
        self.history: list[float] = []

    def loaders(self) -> tuple[DataLoader, DataLoader]:
        loader = partial(DataLoader, batch_size=BATCH, shuffle=True, num_workers=WORKERS, drop_last=True)
        return loader(self.labelled), loader(self.unlabelled)

    def run(self, steps: int) -> float:
        """Whole epochs of steps; seconds."""
        begun, left = time.perf_counter(), steps
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            while left:
                labelled, unlabelled = self.loaders()
                for seen, unseen in zip(labelled, unlabelled, strict=True):
                    self.step(seen[0].to(self.device), seen[1].to(self.device), unseen[0].to(self.device))
                    left -= 1
        return time.perf_counter() - begun

    def peak(self) -> int:
        """Bytes of tensors alive at once in a step."""
        image = torch.zeros(BATCH, 3, self.labelled[0][0].shape[-1], self.labelled[0][0].shape[-1])
        state = [self.net.state_dict(), self.teacher.state_dict(), self.optimiser.state_dict()]
        tensors = [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]
        with LiveTensors(tensors) as live:
            self.step(image, torch.zeros_like(image[:, 0]).long(), image)
        return live.peak

    def step(self, image: Tensor, mask: Tensor, unseen: Tensor) -> None:
        self.optimiser.zero_grad()
        with torch.no_grad():
            teacher_prob = self.teacher(unseen + NOISE * torch.randn_like(unseen).clamp(-2, 2)).softmax(1)
        consistency = ((self.net(unseen).softmax(1) - teacher_prob) ** 2).mean()
        weighed = WEIGHT * min(1.0, (self.done + 1) / self.steps) * consistency
        weighed.backward(retain_graph=True)
        supervised = soft_dice(self.net(image), mask)
        supervised.backward(retain_graph=True)
        self.optimiser.step()
        share = min(1 - 1 / (self.done + 1), DECAY)
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
                slow.mul_(share).add_(fast, alpha=1 - share)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        consistency.item()
        self.history.append(supervised.item())
        self.done += 1


class Ours:
    """The harness: blocks of planned steps, losses read back every sixteen."""

    def __init__(self, training: Training) -> None:
        self.training, self.done = training, 0
        self.history: list[float] = []

    def run(self, steps: int) -> float:
        begun, left = time.perf_counter(), steps
        while left:
            count = min(16, left)
            rows = advance(self.training, self.done, count)
            self.history += rows
            self.done, left = self.done + count, left - count
        return time.perf_counter() - begun

    def peak(self) -> int:
        """Bytes of tensors alive at once in a step, its images included."""
        bare = BareStep(self.training, self.training.plans(0, 1)[0])
        with LiveTensors(held(self.training, bare)) as live:
            bare()
        return live.peak


class Meter:
    """The peak memory of two trainers that take turns on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.held, self.peaks = device, {"plain": 0, "ours": 0}, {"plain": 0, "ours": 0}
        if device.type == "cuda":
            torch.cuda.init()  # without it, peaks cannot be reset

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns; what it leaves behind and the most that it used go to `name`."""
        if self.device.type != "cuda":
            return work()
        torch.cuda.reset_peak_memory_stats(self.device)
        others = sum(self.held.values()) - self.held[name]
        answer = work()
        torch.cuda.synchronize(self.device)
        self.held[name] = torch.cuda.memory_allocated(self.device) - others
        self.peaks[name] = max(self.peaks[name], torch.cuda.max_memory_allocated(self.device) - others)
        return answer


def advance(training: Training, first: int, count: int) -> list[float]:
    """The supervised losses of a block of steps, read back together."""
    values = []
    for step, plan in enumerate(training.plans(first, count), start=first):
        training.enter_step(step)
        values.append(training.step(plan))
    return torch.stack(values)[:, training.step.names.index("supervised")].tolist()


def write(prepared: PreparedData, folder: Path) -> None:
    """The prepared images as files, at their working size already: decoding them is as cheap as it can be."""
    for name, image, mask in zip(prepared.ids, prepared.images, prepared.masks, strict=True):
        Image.fromarray(np.asarray(image)).save(folder / f"{name}.png")
        Image.fromarray(np.asarray(mask)).save(folder / f"{name}_anno.png")


def specification(arguments: argparse.Namespace, seed: int, device: torch.device) -> tuple[Spec, Split]:
    settings = {
        "data.size": arguments.size, "net.name": arguments.net, "train.steps": arguments.steps * (arguments.rounds + 1),
        "train.batch_labelled": BATCH, "train.batch_unlabelled": BATCH, "train.loss": "dice", "optimiser.lr": LR,
        "optimiser.schedule": "constant", "optimiser.warmup": 0.0, "optimiser.weight_decay": 0.01,
        "method.weight": WEIGHT, "method.decay": DECAY, "method.noise": NOISE,
    }  # fmt: skip
    request = Request("mean_teacher", "synthetic", seed=seed, preset="demo", overrides=settings)
    return specify(request, device.type)[:2]


def main() -> None:
    """Measure, and print one line for each question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--net", default="unet_small")
    parser.add_argument("--steps", type=at_least(1), default=72, help="a round; whole epochs")
    parser.add_argument("--rounds", type=at_least(1), default=3)
    parser.add_argument("--seeds", type=at_least(1), default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = devices.choose(arguments.device)
    epoch = len(specification(arguments, 0, device)[1].unlabelled) // BATCH
    if arguments.steps % epoch:
        raise UserError(f"--steps {arguments.steps}: a round is whole epochs of the plain loop; "
                        f"give a multiple of {epoch}")
    ratios: list[float] = []
    ends: dict[str, list[float]] = {"plain": [], "ours": []}
    with tempfile.TemporaryDirectory() as place:
        prepared = load_prepared("synthetic", arguments.size)
        write(prepared, Path(place))
        for seed in range(arguments.seeds):
            spec, split = specification(arguments, seed, device)
            meter, steps = Meter(device), arguments.steps * (arguments.rounds + 1)
            training = meter.run("ours", partial(build_training, spec, prepared, split, device))
            training.method.train()
            torch.manual_seed(seed)
            net = copy.deepcopy(training.method.net).cpu().to(memory_format=torch.contiguous_format)
            plain = meter.run("plain", partial(PlainLoop, Path(place), split, net, steps, device))
            ours = Ours(training)
            # The first round is not timed, but its memory counts: a captured step asks for it then, and not when it is
            # replayed. What autotuning took is no part of it: `CudaGraphStep` has it forgotten.
            for warm_up in (True, *[False] * arguments.rounds):
                theirs = meter.run("plain", partial(plain.run, arguments.steps))
                mine = meter.run("ours", partial(ours.run, arguments.steps))
                if warm_up:
                    continue
                ratios.append(theirs / mine)
                print(f"seed {seed}: plain {arguments.steps / theirs:.2f}, ours {arguments.steps / mine:.2f} steps/s, "
                      f"ratio {ratios[-1]:.2f}", flush=True)
            last = len(plain.history) // 4
            ends["plain"].append(float(np.mean(plain.history[-last:])))
            ends["ours"].append(float(np.mean(ours.history[-last:])))
            if device.type != "cuda":
                meter.peaks = {"plain": plain.peak(), "ours": ours.peak()}
    print(f"steps a second, ours over plain: median {np.median(ratios):.2f} of {len(ratios)} paired rounds")
    mib = {name: peak / 2**20 for name, peak in meter.peaks.items()}
    share = mib["ours"] / mib["plain"]
    print(f"peak memory: plain {mib['plain']:.0f} MiB, ours {mib['ours']:.0f} MiB, {share:.2f} of it")
    for name, values in ends.items():
        spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
        print(f"supervised loss over the last quarter, {name}: {np.mean(values):.4f}{spread} ({len(values)} seeds)")


if __name__ == "__main__":
    run(main)
