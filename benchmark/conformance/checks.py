"""What every method must do, ours or a stranger's: run by `check METHOD` and by the test suite.

A check takes a `MethodTestbed` and returns nothing, or raises `Failure` with one line that says what and where.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmark.batches.batch import Batch
from benchmark.batches.plan import MIXED
from benchmark.conformance import side_effects as conduct
from benchmark.conformance.global_state import put_back
from benchmark.conformance.testbed import STEPS, Failure, MethodTestbed, advance, differences, frozen, not_finite
from benchmark.ema import Teacher
from benchmark.errors import NotApplicable, UserError
from benchmark.losses import IGNORE
from benchmark.method import named_logits
from benchmark.training.phases import phase_spans


def losses_are_named_scalars(bench: MethodTestbed) -> None:
    """`losses` gives a mapping of names to tensors without axes, or several such parts."""
    training = bench.build()
    training.enter_step(0)
    batches = training.step.batches(training.plans(0, 1)[0])
    answer = training.method.losses(batches["labelled"], batches.get("unlabelled"), training.clock)
    if not isinstance(answer, Mapping | Iterator):
        raise Failure(f"losses() gives a {type(answer).__name__}, not a mapping of names to scalars")
    parts = [answer] if isinstance(answer, Mapping) else answer
    terms = {name: term for part in parts for name, term in part.items()}
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.dim():
            kind = f"a tensor {list(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
            raise Failure(f"losses(): '{name}' is {kind}, not a tensor without axes")
    if not any(term.requires_grad for term in terms.values()):
        raise Failure("losses(): no term depends on a parameter, so nothing is learnt")


def losses_are_finite(bench: MethodTestbed) -> None:
    """Every term, and every gradient, is finite in every step; operations are counted in the first, as in every run.

    A finite loss may have a gradient that is not, as a square root has at 0.
    """
    training = bench.build()
    for step in range(STEPS):
        with FlopCounterMode(display=False) if step == 0 else nullcontext():
            (row,) = advance(training, step, 1)
        for name, value in row.items():
            if not np.isfinite(value):
                raise Failure(f"losses(): '{name}' is {value} at step {step + 1}")
        if (what := not_finite(training.method)) is not None:
            raise Failure(f"{what} is not finite at step {step + 1}, though the losses are")


def prediction_has_shape(bench: MethodTestbed) -> None:
    """`predict` gives float logits [B, classes, H, W], whatever the batch."""
    training = bench.build()
    training.method.eval()
    size, classes = bench.prepared.size, len(bench.prepared.classes)
    for batch in (1, 3):
        image = torch.zeros(batch, 3, size, size, device=bench.device)
        with torch.no_grad():
            for name, logits in named_logits(training.method.predict(image)).items():
                if tuple(logits.shape) != (batch, classes, size, size):
                    wanted = (batch, classes, size, size)
                    raise Failure(f"predict(): output '{name}' has shape {tuple(logits.shape)}, expected {wanted}")


def gradients_reach_what_is_trained(bench: MethodTestbed) -> None:
    """Every trained parameter gets a gradient, and nothing else moves but buffers and averages."""
    training = bench.build()
    names = {id(p): name for name, p in training.method.named_parameters()}
    trained = {id(p) for p in training.optimisers.parameters()}
    for path, module in training.method.named_modules():
        for name, parameter in module.named_parameters() if isinstance(module, Teacher) else ():
            if id(parameter) in trained:
                raise Failure(f"param_groups(): '{path}.{name}' is trained, but a teacher only follows: give it a copy")
    advance(training, 0, 1)
    for parameter in training.optimisers.parameters():
        if id(parameter) not in names:
            raise Failure("param_groups() has a parameter that is no part of the module; no checkpoint would hold it")
        if parameter.grad is None:
            raise Failure(f"param_groups(): '{names[id(parameter)]}' is trained but no loss depends on it")
    for parameter in training.method.parameters():
        if parameter.requires_grad and id(parameter) not in trained:
            raise Failure(f"param_groups(): '{names[id(parameter)]}' asks for gradients but no optimiser has it")


def repeats(bench: MethodTestbed) -> None:
    """Two runs of one specification give the same weights, bit for bit."""
    first = bench.reference
    torch.rand(7)  # whatever happens outside must not matter
    changed = differences(first, bench.outcome())
    if changed:
        raise Failure(f"two runs of one specification differ in '{changed[0]}': chance or state outside the module")


def resumes_exactly(bench: MethodTestbed) -> None:
    """Stopped, saved, loaded into a fresh process's worth of objects and continued: the same weights."""
    whole, start, rest = bench.reference, bench.build(), bench.build()
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
    changed = differences(whole, rest.method.state_dict())
    if changed:
        raise Failure(f"after a resume '{changed[0]}' differs: something is remembered outside parameters and buffers")


def evaluation_is_pure(bench: MethodTestbed) -> None:
    """Predicting twice gives the same logits, changes nothing, and does not depend on the batch."""
    training = bench.build()
    advance(training, 0, 2)
    training.method.eval()
    before = frozen(training.method.state_dict())
    _, image, _ = next(training.evaluator.images(bench.split.test[:4]))
    first = training.evaluator.logits(training.method, image)
    second = training.evaluator.logits(training.method, image)
    alone = training.evaluator.logits(training.method, image[:1])
    for name, logits in first.items():
        if not torch.equal(logits, second[name]):
            raise Failure(f"predict(): output '{name}' differs between two calls in evaluation mode")
        if not torch.allclose(logits[:1], alone[name], rtol=1e-3, atol=1e-3):
            raise Failure(f"predict(): output '{name}' of an image depends on the rest of its batch")
    changed = differences(before, training.method.state_dict())
    if changed:
        raise Failure(f"predict() changes '{changed[0]}'")


def training_changes_the_prediction(bench: MethodTestbed) -> None:
    """The official output is of something that training moves, be it by an average."""
    training = bench.build()
    _, image, _ = next(training.evaluator.images(bench.split.test[:2]))
    before = training.evaluator.logits(training.method.eval(), image)
    training.method.train()
    advance(training, 0, 2)
    after = training.evaluator.logits(training.method.eval(), image)
    name = next(iter(before))
    if torch.equal(before[name], after[name]):
        raise Failure(f"predict(): output '{name}' is the same after two steps: nothing that it comes from is trained")


def hidden_masks_change_nothing(bench: MethodTestbed) -> None:
    """Masks of training images outside the labelled list, scrambled, change no weight."""
    known = {bench.prepared.position(name) for name in bench.split.labelled}
    masks = np.array(bench.prepared.masks)
    for row in range(len(masks)):
        if row not in known:
            masks[row] = masks[row][::-1, ::-1] ^ 1
    changed = differences(bench.reference, bench.outcome(replace(bench.prepared, masks=masks)))
    if changed:
        raise Failure(f"'{changed[0]}' depends on the masks of images whose labels are hidden: something reaches past "
                      "its batches")


def images_for_testing_change_nothing(bench: MethodTestbed) -> None:
    """Images that are not for training, turned into their negatives, change no weight."""
    known = {bench.prepared.position(name) for name in (*bench.split.labelled, *bench.split.unlabelled)}
    images = np.array(bench.prepared.images)
    for row in range(len(images)):
        if row not in known:
            images[row] = 255 - images[row]
    changed = differences(bench.reference, bench.outcome(replace(bench.prepared, images=images)))
    if changed:
        raise Failure(f"'{changed[0]}' depends on images that are for testing: something reaches past its batches")


def extreme_masks_are_borne(bench: MethodTestbed) -> None:
    """Labelled masks that are all background, all foreground or all ignored give finite losses."""
    for kind, value in (("background", 0), ("foreground", 1), ("ignored", IGNORE)):
        training = bench.build(replace(bench.prepared, masks=np.full_like(bench.prepared.masks, value)))
        for number, row in enumerate(advance(training, 0, 2), start=1):
            for name, loss in row.items():
                if not np.isfinite(loss):
                    raise Failure(f"losses(): '{name}' is {loss} at step {number} where every pixel is {kind}")
        if (what := not_finite(training.method)) is not None:
            raise Failure(f"{what} is not finite where every pixel is {kind}, though the losses are")


def labels_are_mixed(bench: MethodTestbed) -> None:
    """Where a loss depends on an unlabelled view that CutMix changes, something goes through `cutmix` of that view."""
    training = replace(bench, spec=bench.spec.with_values({"augment.cutmix": 1.0})).build()
    method, step = training.method, getattr(training.step, "eager", training.step)
    if "unlabelled" not in method.views or not method.mixes_labels:
        return
    for first in {steps.start for steps in phase_spans(method.phases, training.steps).values()}:
        training.locate(first)
        batches, asked = step.batches(training.plans(first, 1)[0]), _Asked()
        images: Batch = batches["unlabelled"]
        views = {view: images.tensors[view].requires_grad_() for view in MIXED if view in images.tensors}
        asked.update(images.boxes)
        images.boxes = asked
        step.learn(batches)
        for view, tensor in views.items():
            if tensor.grad is not None and view not in asked.keys_asked:
                raise Failure(f"losses() learns from unlabelled.{view}, into which CutMix pastes other images, and "
                              f"takes no label through unlabelled.cutmix('{view}', ...); or set mixes_labels = False")


class _Asked(dict[str, Tensor]):
    """A batch's rectangles, which remember whose were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.keys_asked: set[str] = set()

    def get(self, view: str, default: Any = None) -> Any:
        self.keys_asked.add(view)
        return super().get(view, default)


def step_can_be_captured(bench: MethodTestbed) -> None:
    """Losses and backward run on fake tensors: no `.item()`, no shape that depends on data."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    training = bench.build()
    if not training.method.cuda_graph:
        return
    step = getattr(training.step, "eager", training.step)
    plan, method = training.plans(0, 1)[0], copy.deepcopy(training.method)
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
            for steps in phase_spans(method.phases, training.steps).values():
                training.locate(steps.start)
                method.phase = training.method.phase
                step.learn(step.batches(plan))
                with torch.no_grad():
                    method.after_step(training.clock)
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            place = bench.blame(error.__traceback__)
            raise Failure(f"a step cannot be captured in a CUDA graph: {text}{place}; set cuda_graph = False") from None


def state_stays_in_place(bench: MethodTestbed) -> None:
    """Parameters and buffers are changed in place: a captured graph would go on reading the old ones."""
    training = bench.build()
    method = training.method
    before = {name: tensor.data_ptr() for name, tensor in method.state_dict(keep_vars=True).items()}
    advance(training, 0, 2)
    for name, tensor in method.state_dict(keep_vars=True).items():
        if before.get(name) != tensor.data_ptr():
            raise Failure(f"'{name}' is replaced instead of being changed in place; use copy_ or add_")


CHECKS: dict[str, Callable[[MethodTestbed], None]] = {
    check.__name__: check
    for check in (
        losses_are_named_scalars, losses_are_finite, gradients_reach_what_is_trained, prediction_has_shape,
        training_changes_the_prediction, evaluation_is_pure, repeats, resumes_exactly,
        hidden_masks_change_nothing, images_for_testing_change_nothing, extreme_masks_are_borne, labels_are_mixed,
        state_stays_in_place,
        step_can_be_captured, conduct.tensors_are_registered, conduct.nothing_is_remembered_elsewhere,
        conduct.files_are_left_alone, conduct.batches_are_left_alone, conduct.modes_are_kept,
        conduct.process_is_left_alone,
    )
}


def conformance(bench: MethodTestbed, only: tuple[str, ...] = ()) -> Iterator[tuple[str, str | None]]:
    """Every check's name (or those of `only`) and its complaint, None where it passed."""
    for name, check in CHECKS.items():
        if only and name not in only:
            continue
        try:
            with put_back():
                check(bench)
            yield name, None
        except (Failure, UserError) as complaint:
            yield name, str(complaint)
        except NotApplicable as reason:
            yield name, f"declined: {reason}"
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split("\n")[0].split())
            yield name, text + bench.blame(error.__traceback__)
