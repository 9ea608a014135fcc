"""From a request to a record: prepare, claim, train, write; or say why not."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from benchmark.config.machine_limits import check_machine
from benchmark.data.load import load_prepared
from benchmark.data.splits import Split, check_split_matches_data
from benchmark.data.store import PreparedData
from benchmark.errors import Interrupted, NotApplicable, UserError
from benchmark.models import info as model
from benchmark.run_lock import Watch
from benchmark.runs.compile_record import check_current, compile_record, weights_digest
from benchmark.runs.folder import RunFolder
from benchmark.runs.records import digest, read_counts, read_record, set_aside, write_record
from benchmark.runs.request import Request, ResolvedRun, specify
from benchmark.spec import Spec
from benchmark.training import device as devices
from benchmark.training.code_versions import code_versions
from benchmark.training.setup import build_training
from benchmark.training.trainer import StaleCheckpoint, TrainResult, train

logger = logging.getLogger(__name__)


def execute(
    request: Request, *, results: Path, raw: str | None = None, device_name: str = "auto", keep: str = "weights",
    again: bool | str = False, record_errors: bool = False, watch: Watch | None = None, wait: Collection[str] = (),
    tell: Callable[[int, int, dict[str, float], float], None] = lambda *_: None,
    asked_to_stop: Callable[[], bool] = lambda: False, **loop: Any,
) -> tuple[dict[str, Any], bool]:
    """The record of the request's run, and whether it had been there already.

    A record that is there is returned, not made again, unless it says `failed` (a crash may be tried again). `again`:
    it is set aside, and made anew; a digest: only where it is still the record with this digest ("": still none).
    `record_errors`: whatever training raises is a failed run, as the foreseen failures are, and its traceback is kept.
    `watch`, `wait`: see `Claim.held`. `loop` goes to the training loop (checkpoint_seconds).
    """
    device = devices.choose(device_name)
    run = specify(request, device.type)
    spec, split = run.spec, run.split
    check_machine(spec.values)
    if request.split is None and split.name != "official":
        logger.info(f"split: {split.name}")
    path = results / "records" / f"{spec.run_id}.json"
    before = digest(path)
    may_stand = bool(before) and not again and read_record(path)["status"] != "failed"
    if may_stand or (isinstance(again, str) and before and again != before):
        return standing(path, run), True
    prepared = load_prepared(run.dataset, spec.values["data.size"], raw=raw)
    for remark in check_split_matches_data(split, prepared):
        logger.warning(remark)
    folder = RunFolder(results, spec)
    with folder.claimed(watch=watch, wait=wait, asked_to_stop=asked_to_stop):
        if digest(path) != before:  # somebody else had the claim before us, and finished
            return standing(path, run), True
        if before and again:
            retire(folder, path)

        def told(step: int, steps: int, means: dict[str, float], seconds: float) -> None:
            folder.tell(step, steps, means, seconds)
            tell(step, steps, means, seconds)

        versions = code_versions(spec.method, run.dataset)  # once: a file may change meanwhile
        loop |= {"tell": told, "asked_to_stop": asked_to_stop}
        outcome, weights = attempt(spec, prepared, split, device, versions, folder, record_errors, loop)
        done = outcome.status == "done"
        folder.claim.check()
        if done:
            folder.save_masks(outcome.masks)
            if keep != "nothing":
                folder.save_weights(weights)
                model.write(folder.path, model.describe(spec, prepared, split, weights_digest(weights)))
        record = compile_record(spec, prepared, split, device, outcome, weights, versions, run.request.command)
        folder.claim.check()
        path = write_record(results / "records", record, outcome.counts if done else None)
        if done:
            folder.finish(keep)
        return read_record(path), False


def retire(folder: RunFolder, path: Path) -> None:
    """Set the record at `path` aside, so that its run, which this process has claimed, starts anew."""
    set_aside(path)
    folder.checkpoint.unlink(missing_ok=True)


def standing(path: Path, run: ResolvedRun) -> dict[str, Any]:
    """The record at `path`; UserError where it is stale, or its counts are not whole."""
    record = read_record(path)
    check_current(record, run)
    if record["status"] == "done":
        read_counts(path, record)
    return record


def attempt(
    spec: Spec, prepared: PreparedData, split: Split, device: torch.device, versions: dict[str, int | str],
    folder: RunFolder, record_errors: bool, loop: dict[str, Any],
) -> tuple[TrainResult, dict[str, torch.Tensor]]:
    """Train; a method's refusal and a full memory are outcomes, too."""
    try:
        devices.clear(device)
        training = build_training(spec, prepared, split, device, versions)
        try:
            outcome = train(training, folder, **loop)
        except StaleCheckpoint as error:
            logger.warning(f"{error} and is kept as {folder.set_checkpoint_aside()}; the run starts anew")
            outcome = train(training, folder, **loop)
        return outcome, {name: tensor.cpu() for name, tensor in training.method.state_dict().items()}
    except NotApplicable as reason:
        return TrainResult("skipped", str(reason)), {}
    except (UserError, Interrupted):
        raise
    except Exception as error:
        explained = explain_failure(error, spec)
        if explained is None:
            if not record_errors:
                raise
            report = folder.keep_traceback(traceback.format_exc())
            cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            explained = f"{cause} (traceback in {report.relative_to(folder.path.parent)})"
        return TrainResult("failed", explained), {}


def explain_failure(error: Exception, spec: Spec) -> str | None:
    """What a foreseen failure of torch means for the user; None for one that is not foreseen."""
    cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in cause:
        half = max(1, spec.values["train.batch_labelled"] // 2)
        return f"out of memory: {cause} Try train.batch_labelled={half}, or a smaller net.name or data.size."
    if "more than 1 value per channel" in cause:
        return f"BatchNorm cannot work on one value a channel: {cause}. Use larger batches or a larger data.size."
    if "captur" in cause:  # "operation not permitted when stream is capturing", and its kin
        return f"a step cannot be captured in a CUDA graph: {cause} Use train.capture=off, or see `check`."
    if "deterministic" in cause:
        return f"an operation has no deterministic kernel here: {cause} Use train.deterministic=false."
    return None
