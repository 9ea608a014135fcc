"""What every method must do, ours or a stranger's: run by `check METHOD` and by the test suite.

A check takes a `Bench` and returns nothing, or raises `Failure` with one line that says what and where.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmark.data.prepared import Prepared
from benchmark.data.splits import Split
from benchmark.engine.session import Session, assemble
from benchmark.errors import Decline
from benchmark.losses import IGNORE
from benchmark.method import named_logits
from benchmark.spec import Spec

STEPS = 4


class Failure(Exception):
    """A method does not keep the contract."""


@dataclass
class Bench:
    """A small task on which a method is tried."""

    spec: Spec
    prepared: Prepared
    split: Split
    device: torch.device

    def session(self, prepared: Prepared | None = None) -> Session:
        """A fresh session; the same one every time."""
        return assemble(self.spec, prepared or self.prepared, self.split, self.device)


def advance(session: Session, first: int, count: int) -> list[dict[str, float]]:
    """Take steps; the logged values of each."""
    rows = []
    for step, plan in enumerate(session.plans(first, count), start=first):
        session.enter_step(step)
        values = session.step(plan).tolist()
        rows.append(dict(zip(session.step.names, values, strict=True)))
    return rows


def differences(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    """Names of tensors that are not bitwise equal."""
    return [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]


def frozen(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of a state dict that training does not move."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def losses_are_finite(bench: Bench) -> None:
    """Every term is a finite scalar, in every step; operations are counted in the first, as in every run."""
    session = bench.session()
    with FlopCounterMode(display=False):
        rows = advance(session, 0, 1)
    for number, row in enumerate([*rows, *advance(session, 1, STEPS - 1)], start=1):
        for name, value in row.items():
            if not np.isfinite(value):
                raise Failure(f"losses(): '{name}' is {value} at step {number}")


def prediction_has_shape(bench: Bench) -> None:
    """`predict` gives float logits [B, classes, H, W], whatever the batch."""
    session = bench.session()
    session.method.eval()
    size, classes = bench.prepared.size, len(bench.prepared.classes)
    for batch in (1, 3):
        image = torch.zeros(batch, 3, size, size, device=bench.device)
        with torch.no_grad():
            for name, logits in named_logits(session.method.predict(image)).items():
                if tuple(logits.shape) != (batch, classes, size, size):
                    wanted = (batch, classes, size, size)
                    raise Failure(f"predict(): output '{name}' has shape {tuple(logits.shape)}, expected {wanted}")


def gradients_reach_what_is_trained(bench: Bench) -> None:
    """Every trained parameter gets a gradient, and nothing else moves but buffers and averages."""
    session = bench.session()
    names = {id(p): name for name, p in session.method.named_parameters()}
    trained = {id(p) for p in session.optimisers.parameters()}
    advance(session, 0, 1)
    for parameter in session.optimisers.parameters():
        if parameter.grad is None:
            raise Failure(f"trained(): '{names[id(parameter)]}' is trained but no loss depends on it")
    for parameter in session.method.parameters():
        if parameter.requires_grad and id(parameter) not in trained:
            raise Failure(f"trained(): '{names[id(parameter)]}' asks for gradients but no optimiser has it")


def repeats(bench: Bench) -> None:
    """Two runs of one specification give the same weights, bit for bit."""
    first, second = bench.session(), bench.session()
    advance(first, 0, STEPS)
    torch.rand(7)  # whatever happens outside must not matter
    advance(second, 0, STEPS)
    changed = differences(first.method.state_dict(), second.method.state_dict())
    if changed:
        raise Failure(f"two runs of one specification differ in '{changed[0]}': chance or state outside the module")


def resumes_exactly(bench: Bench) -> None:
    """Stopped, saved, loaded into a fresh process's worth of objects and continued: the same weights."""
    whole, start, rest = bench.session(), bench.session(), bench.session()
    advance(whole, 0, STEPS)
    advance(start, 0, STEPS // 2)
    saved = io.BytesIO()
    torch.save({"method": start.method.state_dict(), "optimisers": start.optimisers.state_dict()}, saved)
    saved.seek(0)
    try:
        state = torch.load(saved, weights_only=True)
    except Exception as error:
        raise Failure(f"state_dict() does not load with weights_only=True: {str(error).splitlines()[0]}") from None
    rest.method.load_state_dict(state["method"])
    rest.optimisers.load_state_dict(state["optimisers"])
    rest.clock.step.fill_(STEPS // 2)
    advance(rest, STEPS // 2, STEPS - STEPS // 2)
    changed = differences(whole.method.state_dict(), rest.method.state_dict())
    if changed:
        raise Failure(f"after a resume '{changed[0]}' differs: something is remembered outside parameters and buffers")


def evaluation_is_pure(bench: Bench) -> None:
    """Predicting twice gives the same logits, changes nothing, and does not depend on the batch."""
    session = bench.session()
    advance(session, 0, 2)
    session.method.eval()
    before = frozen(session.method.state_dict())
    _, image, _ = next(session.evaluator.images(bench.split.test[:4]))
    first = session.evaluator.logits(session.method, image)
    second = session.evaluator.logits(session.method, image)
    alone = session.evaluator.logits(session.method, image[:1])
    for name, logits in first.items():
        if not torch.equal(logits, second[name]):
            raise Failure(f"predict(): output '{name}' differs between two calls in evaluation mode")
        if not torch.allclose(logits[:1], alone[name], rtol=1e-3, atol=1e-3):
            raise Failure(f"predict(): output '{name}' of an image depends on the rest of its batch")
    changed = differences(before, session.method.state_dict())
    if changed:
        raise Failure(f"predict() changes '{changed[0]}'")


def hidden_masks_change_nothing(bench: Bench) -> None:
    """Masks of training images outside the labelled list, scrambled, change no weight."""
    known = {bench.prepared.position(name) for name in bench.split.labelled}
    masks = np.array(bench.prepared.masks)
    for row in range(len(masks)):
        if row not in known:
            masks[row] = masks[row][::-1, ::-1] ^ 1
    first, second = bench.session(), bench.session(replace(bench.prepared, masks=masks))
    advance(first, 0, STEPS)
    advance(second, 0, STEPS)
    changed = differences(first.method.state_dict(), second.method.state_dict())
    if changed:
        raise Failure(f"'{changed[0]}' depends on the masks of images whose labels are hidden")


def extreme_masks_are_borne(bench: Bench) -> None:
    """Labelled masks that are all background, all foreground or all ignored give finite losses."""
    for kind, value in (("background", 0), ("foreground", 1), ("ignored", IGNORE)):
        masks = np.full_like(bench.prepared.masks, value)
        for number, row in enumerate(advance(bench.session(replace(bench.prepared, masks=masks)), 0, 2), start=1):
            for name, loss in row.items():
                if not np.isfinite(loss):
                    raise Failure(f"losses(): '{name}' is {loss} at step {number} where every pixel is {kind}")


def step_can_be_captured(bench: Bench) -> None:
    """Losses and backward run on fake tensors: no `.item()`, no shape that depends on data."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    session = bench.session()
    if not session.method.capturable:
        return
    step = getattr(session.step, "eager", session.step)
    plan, method = session.plans(0, 1)[0], copy.deepcopy(session.method)
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # a complaint is ours to make
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for module in method.modules():
            for store in (module._parameters, module._buffers):
                for name, tensor in store.items():
                    if tensor is not None:
                        fake: Any = mode.from_tensor(tensor.detach())
                        is_parameter = isinstance(tensor, torch.nn.Parameter)
                        store[name] = torch.nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
        step.method = method
        try:
            step.learn(step.batches(plan))
            with torch.no_grad():
                method.after_step(session.clock)
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise Failure(f"a step cannot be captured in a CUDA graph: {text}; set capturable = False") from None


def state_stays_in_place(bench: Bench) -> None:
    """Parameters and buffers are changed in place: a captured graph would go on reading the old ones."""
    session = bench.session()
    method = session.method
    before = {name: tensor.data_ptr() for name, tensor in method.state_dict(keep_vars=True).items()}
    advance(session, 0, 2)
    for name, tensor in method.state_dict(keep_vars=True).items():
        if before.get(name) != tensor.data_ptr():
            raise Failure(f"'{name}' is replaced instead of being changed in place; use copy_ or add_")


CHECKS: dict[str, Callable[[Bench], None]] = {
    check.__name__: check
    for check in (
        losses_are_finite, prediction_has_shape, gradients_reach_what_is_trained, repeats, resumes_exactly,
        evaluation_is_pure, hidden_masks_change_nothing, extreme_masks_are_borne, state_stays_in_place,
        step_can_be_captured,
    )
}


def conformance(bench: Bench, only: tuple[str, ...] = ()) -> Iterator[tuple[str, str | None]]:
    """Every check's name (or those of `only`) and its complaint, None where it passed."""
    for name, check in CHECKS.items():
        if only and name not in only:
            continue
        try:
            check(bench)
            yield name, None
        except Failure as failure:
            yield name, str(failure)
        except Decline as reason:
            yield name, f"declined: {reason}"
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, NotImplementedError) as error:
            yield name, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
