"""A run's folder: its lock, checkpoint, log, weights and predicted masks."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import RUN_FAILED, UserError
from benchmark.files import (
    ArrayFile,
    explain,
    remove_unfinished,
    write_arrays,
    write_atomically,
    write_json,
    write_text,
)
from benchmark.runs.lock import RunLock
from benchmark.spec import Spec


class RunFolder:
    """`results/runs/<run id>/`: specification, log, checkpoint, weights, masks. Also the loop's `RunStore`."""

    def __init__(self, results: Path, spec: Spec) -> None:
        self.path = folder_of(results, spec.run_id)
        self.spec = spec
        self.lock = RunLock(lock_of(results, spec.run_id))

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    @contextlib.contextmanager
    def locked(self, **how: Any) -> Iterator[None]:
        """Lock the run for this process; `how`: see `RunLock.acquire`."""
        with self.lock.acquire(**how):
            remove_unfinished(self.path)
            write_json(self.path / "spec.json", self.spec.to_json())
            yield

    def tell(self, step: int, steps: int, seconds: float) -> None:
        """Let others see how far the run is, after so many seconds, evaluations included."""
        self.lock.progress = {"step": step, "steps": steps, "seconds_per_step": seconds / max(1, step)}

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None; UserError when it is damaged."""
        import torch

        if not self.checkpoint.exists():
            return None
        try:
            return torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            cause = str(error).splitlines()[0][:120]
            raise UserError(
                f"{self.checkpoint}: damaged checkpoint ({cause}); remove it and the run starts anew", RUN_FAILED
            ) from None

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint in one move."""
        self._save(self.checkpoint, state)

    def set_checkpoint_aside(self) -> Path:
        """Keep the checkpoint under another name, which is returned."""
        number = 1
        while (aside := self.path / f"{self.checkpoint.name}.old{number}").exists():
            number += 1
        os.replace(self.checkpoint, aside)
        return aside

    def save_weights(self, weights: dict[str, Any]) -> None:
        """The final weights, loadable with `weights_only=True`."""
        self._save(self.path / "weights.pt", weights)

    def _save(self, path: Path, content: dict[str, Any]) -> None:
        import torch

        def write(stream: Any) -> None:
            try:
                torch.save(content, stream)
            except RuntimeError as error:  # its writer wraps the system's error in one of its own
                cause = error.__cause__ or error.__context__
                number = cause.errno if isinstance(cause, OSError) else errno.ENOSPC
                raise OSError(number, str(error).splitlines()[0]) from error

        self.lock.check()
        write_atomically(path, write)

    def start_log(self, step: int) -> None:
        """Cut the log back to the lines up to `step`."""
        lines = []
        if self.log_file.exists():
            for line in self.log_file.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    if json.loads(line)["step"] <= step:
                        lines.append(line + "\n")
        write_text(self.log_file, "".join(lines))

    def log(self, lines: list[dict[str, Any]]) -> None:
        """Append one JSON line a step."""
        self.lock.check()
        try:
            with open(self.log_file, "a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(line) + "\n" for line in lines)
        except OSError as error:
            raise explain(error, self.log_file) from None

    def save_masks(self, masks: dict[str, np.ndarray]) -> None:
        """Native test masks by image id [H, W]: bool, a bit a pixel, or class indices."""
        arrays: dict[str, Any] = {}
        for name, mask in masks.items():
            if mask.dtype == bool:
                arrays[name] = np.packbits(mask)
                arrays[f"{name}.shape"] = np.asarray(mask.shape)
            else:
                arrays[name] = mask
        write_atomically(self.path / "masks.npz", lambda stream: write_arrays(stream, arrays))

    def keep_traceback(self, text: str) -> Path:
        """Keep what an unforeseen failure has to say; the file."""
        path = self.path / "error.txt"
        write_text(path, text)
        return path

    def finish(self, keep: str) -> None:
        """Remove what `keep` (nothing, weights, all) does not want once the record is written."""
        (self.path / "error.txt").unlink(missing_ok=True)
        if keep != "all":
            self.checkpoint.unlink(missing_ok=True)


def folder_of(results: Path, run_id: str) -> Path:
    """Where a run's folder is."""
    return results / "runs" / run_id


def lock_of(results: Path, run_id: str) -> Path:
    """Where a run's lock is."""
    return folder_of(results, run_id) / "lock"


def load_masks(path: Path) -> dict[str, np.ndarray]:
    """What `save_masks` wrote."""
    arrays = ArrayFile(path)
    names = [name for name in arrays if not name.endswith(".shape")]
    shapes = {name: tuple(arrays[f"{name}.shape"]) for name in names if f"{name}.shape" in arrays}
    return {
        name: np.unpackbits(arrays[name], count=int(np.prod(shape))).reshape(shape).astype(bool)
        if (shape := shapes.get(name)) else arrays[name]
        for name in names
    }
