"""Counting what a method is made of, without a run."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from benchmark.method import Method, named_logits


def flop_counter() -> FlopCounterMode:
    """Counts floating-point operations while it is entered; right for grouped convolutions, as torch's own is not."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward})


def _convolution_backward(
    gradient_shape: list[int], x_shape: list[int], weight_shape: list[int], _bias: Any, _stride: Any, _padding: Any,
    _dilation: Any, transposed: bool, _output_padding: Any, _groups: int, output_mask: list[bool], **_: Any,
) -> int:
    """The gradient of the input and that of the weight take as many operations as the convolution itself, each.

    A weight's shape holds the channels of one group, so groups need no further care.
    """
    return conv_flop_count(x_shape, weight_shape, gradient_shape, transposed) * sum(output_mask[:2])


def reached_parameters(method: Method, size: int, device: torch.device) -> int | None:
    """How many parameters the official output of `predict` depends on, found by asking autograd; None if it cannot say.

    It cannot for a method that shuts off gradients in `predict` itself.
    """
    parameters = list(method.parameters())
    wanted = [parameter.requires_grad for parameter in parameters]
    training = method.training
    method.eval()
    dtype = parameters[0].dtype if parameters else torch.float32
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        image = torch.zeros(1, 3, size, size, device=device, dtype=dtype)
        with torch.enable_grad():
            official = next(iter(named_logits(method.predict(image)).values()))
            if not official.requires_grad:
                return None
            reached = torch.autograd.grad(official.sum(), parameters, allow_unused=True)
    finally:
        for parameter, flag in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(flag)
        method.train(training)
    return sum(p.numel() for p, gradient in zip(parameters, reached, strict=True) if gradient is not None)
