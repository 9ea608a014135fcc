"""The most memory that tensors hold at once, where no allocator says so, and what is kept for a backward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of all storages that operations make while it is on, until each is freed; `peak` is the most.

    What an operation takes for itself while it runs (the workspace of a convolution) is not seen. Slow: for one step.
    """

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()
        for tensor in held:
            self._note(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(answer):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        return answer

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, key, size).atexit = False

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def peak_bytes(work: Callable[[], Any], held: Iterable[Tensor] = ()) -> int:
    """The most bytes of tensors alive at once while `work` runs, those of `held` included."""
    with LiveTensors(held) as live:
        work()
    return live.peak


def saved_bytes(work: Callable[[], Any], held: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps for the backward pass of `work`, those of `held` (parameters, inputs) left out."""
    known = {tensor.untyped_storage().data_ptr() for tensor in held}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer = work()  # alive until all is counted, and with it all that it keeps
    del answer
    return sum(sizes.values())
