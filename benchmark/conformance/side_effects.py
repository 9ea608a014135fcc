"""What a method must leave alone: files, its batches, modes, its process; and where it may remember things."""

from __future__ import annotations

import collections
import random
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.conformance.audit_hook import by_an_import, watched
from benchmark.conformance.global_state import SEED, described, surroundings
from benchmark.conformance.testbed import STEPS, Failure, MethodTestbed, advance, is_ours
from benchmark.method import Method
from benchmark.paths import prepared_folder, raw_folder
from benchmark.training import device as devices

TORCHS_OWN = set(vars(nn.Module()))  # attributes that every module has
HARNESS = {"logged", "phase"}  # what the harness keeps on a method
DEPTH = 4  # of what is looked into to see whether it changes


def files_are_left_alone(bench: MethodTestbed) -> None:
    """Steps and predictions open no file, start no process and connect to nothing; nor are data opened before."""
    data = tuple(f"{folder.resolve()}/" for folder in (prepared_folder(), raw_folder(), bench.prepared.folder.parent))
    seen: list[str] = []
    at_work = False

    def listen(verb: str, what: str, frame: FrameType) -> None:
        place = bench.blame(frame)
        matters = at_work or str(Path(what).resolve()).startswith(data)
        if place and matters and not by_an_import(frame, bench.own_files):
            seen.append(f"{verb} {what}{place}")

    with watched(listen):
        training = bench.build_eager()
        at_work = True
        advance(training, 0, 2)
        predict(bench, training.method)
    if seen:
        raise Failure(f"the method {seen[0]}: it may know nothing but its task and its batches")


def batches_are_left_alone(bench: MethodTestbed) -> None:
    """No tensor of a batch is changed in place: others use it, too."""
    training = bench.build_eager()
    training.enter_step(0)
    batches = training.step.batches(training.plans(0, 1)[0])
    before = {stream: {name: t.clone() for name, t in batch.tensors.items()} for stream, batch in batches.items()}
    training.step.learn(batches)
    for stream, batch in batches.items():
        for name, tensor in batch.tensors.items():
            if not torch.equal(before[stream][name], tensor):
                raise Failure(f"losses() changes {stream}.{name} in place; work on a copy, as in {stream}.{name} * 1.0")


def modes_are_kept(bench: MethodTestbed) -> None:
    """No network is left in another mode, and no parameter with or without gradients, than it was found in."""
    training = bench.build_eager()
    method = training.method
    for where, mode in (("a step", True), ("predict()", False)):
        method.train(mode)
        before = modes(method)
        if mode:
            advance(training, 0, 2)
        else:
            predict(bench, method)
        for name, found in modes(method).items():
            if found != before.get(name, found):
                raise Failure(f"{where} leaves {name} {found}; it was {before[name]}: put it back")


def modes(method: Method) -> dict[str, str]:
    """The mode of every module, and whether every parameter asks for gradients."""
    found = {f"'{name or 'the method'}'": f"in {'training' if module.training else 'evaluation'} mode"
             for name, module in method.named_modules()}
    return found | {f"parameter '{name}'": f"{'with' if parameter.requires_grad else 'without'} gradients"
                    for name, parameter in method.named_parameters()}


def process_is_left_alone(bench: MethodTestbed) -> None:
    """Switches of torch, seeds and generators that all code of the process shares are as they were found."""
    train = bench.spec.section("train")
    devices.configure(bench.device, train.threads, train.deterministic)
    before = surroundings()
    training = bench.build_eager()
    compare("the constructor", before, surroundings() | {SEED: before[SEED]})  # the harness seeds it itself
    plan = training.plans(0, 1)[0]
    training.enter_step(0)
    before = surroundings()
    training.step(plan)
    compare("a step", before, surroundings())
    predict(bench, training.method.eval())
    compare("predict()", before, surroundings())


def compare(where: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
    """Failure where something is not as before."""
    for name, was in before.items():
        if was != after[name]:
            drawn = "generator" in name and name != SEED
            advice = "draw with torch, which the harness seeds" if drawn else "leave it, or put it back"
            raise Failure(f"{where} changes {described(name, was, after[name])}, which all code shares; {advice}")


def nothing_is_remembered_elsewhere(bench: MethodTestbed) -> None:
    """Attributes, class attributes and globals settle in the first two steps: what goes on changing is hidden state."""
    training = bench.build_eager()
    advance(training, 0, STEPS // 2)
    before = remembered(bench, training.method)
    advance(training, STEPS // 2, STEPS - STEPS // 2)
    after = remembered(bench, training.method)
    for name, value in after.items():
        if value != before.get(name):
            short = [text if len(text := str(v)) < 30 else "one thing" for v in (before.get(name, "absent"), value)]
            change = f"{short[0]} after {STEPS // 2} steps and {short[1] if short[0] != short[1] else 'another'}"
            raise Failure(f"{name} is {change} after {STEPS}: a resumed run has forgotten it; make it a buffer")


def remembered(bench: MethodTestbed, method: Method) -> dict[str, Any]:
    """What is kept outside parameters and buffers, by name, in a form that may be compared."""
    found: dict[str, Any] = {}
    for path, module in method.named_modules():
        owner = ".".join(filter(None, ("self", path)))
        found |= {f"{owner}.{key}": value for key, value in attributes(module).items()}
    for kind in bench.own_classes:
        found |= {f"{kind.__name__}.{key}": value for key, value in vars(kind).items() if is_data(key, value)}
        module = sys.modules[kind.__module__]
        file = Path(str(module.__file__)).name
        found |= {f"global '{key}' of {file}": v for key, v in vars(module).items() if is_data(key, v)}
    return {name: comparable(value) for name, value in found.items()}


def attributes(module: nn.Module) -> dict[str, Any]:
    """A module's attributes that are neither parameters, buffers nor modules, and not torch's or the harness's own."""
    return {key: value for key, value in vars(module).items() if key not in TORCHS_OWN | HARNESS}


def is_data(key: str, value: Any) -> bool:
    """Whether a name of a class or a module stands for data, not for code."""
    return not (key.startswith("__") or callable(value) or isinstance(value, ModuleType | property | staticmethod))


def comparable(value: Any, depth: int = DEPTH) -> Any:
    """A value as something that is equal where nothing changed; addresses do not count."""
    if isinstance(value, Tensor):
        return hash(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    if isinstance(value, np.ndarray):
        return hash(value.tobytes())
    if isinstance(value, torch.Generator):
        return comparable(value.get_state())
    if isinstance(value, random.Random):
        return hash(value.getstate())
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if depth and isinstance(value, Mapping):
        return {str(key): comparable(entry, depth - 1) for key, entry in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset | collections.deque):
        return [comparable(entry, depth - 1) for entry in value]
    if depth and hasattr(value, "__dict__") and not callable(value) and not is_ours(type(value).__module__):
        return {key: comparable(entry, depth - 1) for key, entry in vars(value).items()}
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value)) if not is_ours(type(value).__module__) or is_plain(value) else ""


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text or the like."""
    return value is None or isinstance(value, bool | int | float | complex | str | bytes)


def tensors_are_registered(bench: MethodTestbed) -> None:
    """Every tensor and module that a method holds is known to it as parameter, buffer or submodule."""
    for path, module in bench.build().method.named_modules():
        owner = ".".join(filter(None, ("self", path)))
        for key, value in attributes(module).items():
            for held in held_by(value):
                what, advice = "a tensor", "register_buffer(..., persistent=False)"
                if isinstance(held, nn.Module):
                    what, advice = "a module", "nn.ModuleList or nn.ModuleDict"
                elif isinstance(held, nn.Parameter):
                    what, advice = "a parameter", "nn.ParameterList or nn.ParameterDict"
                raise Failure(f"{owner}.{key} holds {what} that no checkpoint and no GPU will see: use {advice}")


def held_by(value: Any, depth: int = DEPTH) -> Iterator[Tensor | nn.Module]:
    """Tensors and modules in a value, or in the lists and mappings that it is."""
    if isinstance(value, Tensor | nn.Module):
        yield value
    elif depth and isinstance(value, Mapping):
        value = list(value.values())
    if depth and isinstance(value, list | tuple):
        for entry in value:
            yield from held_by(entry, depth - 1)


def predict(bench: MethodTestbed, method: Method) -> None:
    """One prediction, as an evaluation asks for it."""
    size = bench.prepared.size
    method.eval()
    with torch.inference_mode():
        method.predict(torch.zeros(2, 3, size, size, device=bench.device))
