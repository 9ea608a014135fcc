"""The checks that every method must pass: `check METHOD` and the test suite run them.

A check takes a `MethodTestbed` and returns nothing, or raises `Failure` with one line that says what and where. Most
look at one and the same run; whole runs are made anew only for resuming and for scrambled data.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.conformance.data_checks import (
    batches_are_not_modified,
    empty_full_ignored_masks_are_finite,
    hidden_masks_and_test_images_are_unused,
    labels_are_mixed,
    require_finite,
    unknown_pixels_are_no_class,
)
from benchmark.conformance.testbed import (
    STEPS,
    Failure,
    MethodTestbed,
    advance,
    differences,
    frozen,
    modes,
    unregistered,
)
from benchmark.ema import Teacher
from benchmark.errors import NotApplicable, UserError
from benchmark.training.setup import phase_spans
from benchmark.training.step import flop_counter


def losses_are_named_scalars(testbed: MethodTestbed) -> None:
    """`losses` gives a mapping of names to tensors without axes, or several such parts."""
    training = testbed.build()
    training.enter_step(0)
    batches = training.step.batches(training.plans(0, 1)[0])
    with flop_counter():  # as in the first step of every run
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


def losses_and_gradients_are_finite(testbed: MethodTestbed) -> None:
    """Every term, and every gradient, is finite in every step.

    A finite loss may have a gradient that is not, as a square root has at 0.
    """
    for step, (row, what) in enumerate(zip(testbed.observed.rows, testbed.observed.not_finite, strict=True), start=1):
        require_finite(row, what, f"at step {step}")


def gradients_reach_all_trained_parameters(testbed: MethodTestbed) -> None:
    """Every trained parameter gets a gradient, and nothing else moves but buffers and averages."""
    training = testbed.observed.training
    names = {id(p): name for name, p in training.method.named_parameters()}
    trained = {id(p) for p in training.optimisers.parameters()}
    for path, module in training.method.named_modules():
        for name, parameter in module.named_parameters() if isinstance(module, Teacher) else ():
            if id(parameter) in trained:
                raise Failure(f"param_groups(): '{path}.{name}' is trained, but a teacher only follows: give it a copy")
    if trained - names.keys():
        raise Failure("param_groups() has a parameter that is no part of the module; no checkpoint would hold it")
    for name, parameter in training.method.named_parameters():
        if id(parameter) in testbed.observed.without_gradient:
            raise Failure(f"param_groups(): '{name}' is trained but no loss depends on it")
        if parameter.requires_grad and id(parameter) not in trained:
            raise Failure(f"param_groups(): '{name}' asks for gradients but no optimiser has it")


def logits_have_shape_and_are_finite(testbed: MethodTestbed) -> None:
    """`predict` gives finite float logits [B, classes, H, W], whatever the batch; every run asks the same first."""
    training = testbed.build()
    for images in (1, 3):
        training.evaluator.check(training.method, images)


def training_changes_the_prediction(testbed: MethodTestbed) -> None:
    """The official output is of something that training moves, be it by an average."""
    (name, before), (_, after) = testbed.observed.logits_before, testbed.observed.logits_after
    if torch.equal(before, after):
        raise Failure(f"predict(): output '{name}' is the same after {STEPS} steps: it depends on nothing trained")


def predict_has_no_side_effects(testbed: MethodTestbed) -> None:
    """Predicting twice gives the same logits, changes nothing, and does not depend on the batch."""
    training = testbed.observed.training
    method, evaluator = training.method.eval(), training.evaluator
    before = frozen(method.state_dict())
    _, image, _ = next(evaluator.images(testbed.split.test[:4]))
    first, second, alone = (evaluator.logits(method, images) for images in (image, image, image[:1]))
    for name, logits in first.items():
        if not torch.equal(logits, second[name]):
            raise Failure(f"predict(): output '{name}' differs between two calls in evaluation mode")
        if not torch.allclose(logits[:1], alone[name], rtol=1e-3, atol=1e-3):
            raise Failure(f"predict(): output '{name}' of an image depends on the rest of its batch")
    if changed := differences(before, method.state_dict()):
        raise Failure(f"predict() changes '{changed[0]}'")


def resumes_exactly(testbed: MethodTestbed) -> None:
    """Stopped, saved, loaded into a fresh process's worth of objects and continued: the same weights, bit for bit."""
    start, rest, saved = testbed.build(), testbed.build(), io.BytesIO()
    advance(start, 0, STEPS // 2)
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
    if not (changed := differences(testbed.reference, rest.method.state_dict())):
        return
    if other := differences(testbed.reference, testbed.final_state()):  # not even without a stop
        raise Failure(f"two runs of one specification differ in '{other[0]}': chance or state outside the module")
    raise Failure(f"after a resume '{changed[0]}' differs: something is remembered outside parameters and buffers")


def step_can_be_captured(testbed: MethodTestbed) -> None:
    """Losses and backward of every phase run on fake tensors: no `.item()`, no shape that depends on data."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    training = testbed.build_eager()
    if not training.method.cuda_graph:
        return
    step, plan, method = training.step, training.plans(0, 1)[0], training.method
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # a complaint is ours to make
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for module in method.modules():
            for store in (module._parameters, module._buffers):
                for name, tensor in store.items():
                    if tensor is not None:
                        fake: Any = mode.from_tensor(tensor.detach())
                        is_parameter = isinstance(tensor, nn.Parameter)
                        store[name] = nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
        try:
            for steps in phase_spans(method.phases, training.steps).values():
                training.locate(steps.start)
                step.learn(step.batches(plan))
                with torch.no_grad():
                    method.after_step(training.clock)
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            place = testbed.place(error)
            raise Failure(f"a step cannot be captured in a CUDA graph: {text}{place}; compute it with tensors, or set "
                          "cuda_graph = False") from None


def state_is_updated_in_place(testbed: MethodTestbed) -> None:
    """Parameters and buffers are changed in place: a captured graph would go on reading the old ones."""
    for name in testbed.observed.replaced:
        raise Failure(f"'{name}' is replaced instead of being changed in place; use copy_ or add_")


def tensors_are_registered(testbed: MethodTestbed) -> None:
    """Every tensor and module that a method holds is known to it as parameter, buffer or submodule."""
    for name, held in unregistered(testbed.observed.training.method):
        what, advice = "a tensor", "register_buffer(..., persistent=False)"
        if isinstance(held, nn.Module):
            what, advice = "a module", "nn.ModuleList or nn.ModuleDict"
        elif isinstance(held, nn.Parameter):
            what, advice = "a parameter", "nn.ParameterList or nn.ParameterDict"
        raise Failure(f"{name} holds {what} that no checkpoint and no GPU will see: use {advice}")


def no_hidden_state(testbed: MethodTestbed) -> None:
    """Attributes, class attributes and globals settle in the first two steps: what goes on changing is hidden state."""
    before, after = testbed.observed.kept
    for name, value in after.items():
        if value != before.get(name):
            was, now = (text if len(text := str(v)) < 30 else "one thing" for v in (before.get(name, "absent"), value))
            raise Failure(f"{name} is {was} after {STEPS // 2} steps and {now if now != was else 'another'} after "
                          f"{STEPS}: a resumed run has forgotten it; make it a buffer")


def train_eval_mode_is_restored(testbed: MethodTestbed) -> None:
    """No network is left in another mode, and no parameter with or without gradients, than it was found in."""
    observed, method = testbed.observed, testbed.observed.training.method
    before = modes(method.eval())
    observed.official_logits()
    pairs = [("a step", *pair) for pair in pairwise(observed.modes)]
    for where, was, now in [*pairs, ("predict()", before, modes(method))]:
        for name, found in now.items():
            if found != was.get(name, found):
                raise Failure(f"{where} leaves {name} {found}; it was {was[name]}: put it back")


def global_generators_are_untouched(testbed: MethodTestbed) -> None:
    """Random numbers come from torch's generator, which the harness seeds in every step, and nobody else seeds it."""
    before, after = testbed.observed.generators
    for name in before:
        if before[name] != after[name]:
            raise Failure(f"the method draws from {name}, which no run seeds; draw with torch")
    if testbed.observed.reseeded:
        raise Failure("a step seeds torch's generator, which the harness does; leave it")


CHECKS: dict[str, Callable[[MethodTestbed], None]] = {
    check.__name__: check
    for check in (
        losses_are_named_scalars, losses_and_gradients_are_finite, gradients_reach_all_trained_parameters,
        logits_have_shape_and_are_finite, training_changes_the_prediction, predict_has_no_side_effects, resumes_exactly,
        hidden_masks_and_test_images_are_unused, empty_full_ignored_masks_are_finite, unknown_pixels_are_no_class,
        labels_are_mixed, state_is_updated_in_place, step_can_be_captured, tensors_are_registered, no_hidden_state,
        batches_are_not_modified, train_eval_mode_is_restored, global_generators_are_untouched,
    )
}


def conformance(testbed: MethodTestbed, only: tuple[str, ...] = ()) -> Iterator[tuple[str, str | None]]:
    """Every check's name (or those of `only`) and its complaint, None where it passed."""
    for name in only or CHECKS:
        try:
            CHECKS[name](testbed)
            yield name, None
        except (Failure, UserError) as complaint:
            yield name, str(complaint)
        except NotApplicable as reason:
            yield name, f"declined: {reason}"
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split("\n")[0].split())
            yield name, text + testbed.place(error)


def check_method(method: str, device: torch.device, only: tuple[str, ...] = ()) -> Iterator[tuple[str, str | None]]:
    """The conformance of a method, by its name or path, on the embedded images."""
    return conformance(MethodTestbed.of(method, device), only)
