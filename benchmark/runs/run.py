"""From a request to a record: prepare the data, lock the run, train, write; or return the record that is there."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmark.data import pools
from benchmark.data.load import current_fingerprint, load_prepared
from benchmark.data.splits import Split, check_split_matches_data
from benchmark.data.store import PreparedData
from benchmark.errors import Interrupted, NotApplicable, UserError, raised_at
from benchmark.files import set_aside, write_text
from benchmark.machine import check_machine
from benchmark.protocols import scores
from benchmark.registry import METHODS, own_files
from benchmark.runs.event_files import WatchedRunFolder
from benchmark.runs.request import Request, ResolvedRun, specify
from benchmark.runs.run_files import (
    SCHEMA,
    RunFolder,
    digest,
    read_counts,
    read_record,
    record_of,
    staleness,
    write_record,
)
from benchmark.spec import Spec
from benchmark.training import device as devices
from benchmark.training import model_file
from benchmark.training.evaluate import scorable
from benchmark.training.setup import Training, annotation_of, build_training, code_versions
from benchmark.training.trainer import CHECKPOINT_SECONDS, StaleCheckpoint, TrainResult, train

logger = logging.getLogger(__name__)

CAPTURE = "captur"
HINTS = {
    "more than 1 value per channel": ("BatchNorm cannot work on one value a channel",
                                      "Use larger batches or a larger data.size."),
    CAPTURE: ("a step cannot be captured in a CUDA graph", "Use train.capture=off, or see `check`."),
    "deterministic": ("an operation has no deterministic kernel here", "Use train.deterministic=false."),
}  # part of a message of torch: what it means, and what to do
OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")  # CUDA's have no class of their own
OF_RECORD = ("checkpoint.pt", "weights.pt", "model.json", "masks.npz")  # files of a run's folder
STRICT = ("test_native", "test_objects", "test_surface", "test_pixels", "test_background", "test_ids", "test_groups",
          "classes")  # how the names of the counts begin that `strict` and its tables read
OnProgress = Callable[[int, int, dict[str, float], float], None]  # step, steps, mean losses, seconds so far


@dataclass(frozen=True)
class RunOptions:
    """What a run needs beside its specification; none of it changes its numbers.

    results, data: folders of the results and of raw data sets. overwrite: archive a record that is there and run again.
    expected_digest: of the record that is to be replaced, "" for none; another record that is there is returned.
    keep: what stays in the run's folder (nothing, weights, all). wait_for_lock: see `RunLock.acquire`. events: also
    write event files for TensorBoard.
    """

    results: Path
    data: str | None = None
    device: str = "auto"
    overwrite: bool = False
    expected_digest: str | None = None
    keep: str = "weights"
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    wait_for_lock: bool = False
    events: bool = False


class Elsewhere(NamedTuple):
    """Test images of other data that a run is scored on, too, and those that are left out, by reason."""

    data: PreparedData
    lists: Split
    ids: tuple[str, ...]
    left_out: dict[str, list[str]]


class RunInputs(NamedTuple):
    """All that decides a run's numbers; `versions`: of the code that runs it."""

    spec: Spec
    prepared: PreparedData
    split: Split
    device: torch.device
    versions: dict[str, int | str]


def run_or_load(
    request: Request, options: RunOptions, *, asked_to_stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = lambda *_: None,
) -> tuple[dict[str, Any], bool]:
    """The record of the request's run, and whether it was there already.

    A record that is there is returned, unless it says `failed`: a crash may be tried again. Raises RunLocked where
    another process works on the run, Interrupted where this one is asked to stop; both lose nothing.
    """
    device = devices.choose(options.device)
    run = specify(request, device.type)
    spec = run.spec
    check_machine(spec.values)
    path = record_of(options.results, spec.run_id)
    before = digest(path)
    if before and not _may_run(path, before, options):
        now = {key: current_fingerprint(*each, raw=options.data) for key, each in run.datasets.items()}
        return existing_record(path, run, now), True
    folder = (WatchedRunFolder if options.events else RunFolder)(options.results, spec)
    prepared, split, elsewhere = load_data(run, options.data)
    logger.info(f"split {split.name}, fold {split.fold}: {len(split.labelled)} labelled, "
                f"{len(split.unlabelled) + len(split.pool)} unlabelled and {len(split.test)} test images")
    with folder.locked(wait=options.wait_for_lock, asked_to_stop=asked_to_stop):
        there = digest(path)
        if there and there != before:  # another process had the lock before us, and finished
            return existing_record(path, run, {"": prepared.fingerprint}), True
        if there and (options.overwrite or options.expected_digest):
            archive_run(folder, path)
            there = ""

        def tell(step: int, steps: int, means: dict[str, float], seconds: float) -> None:
            folder.lock.progress = {"step": step, "steps": steps, "seconds_per_step": seconds / max(1, step)}
            on_progress(step, steps, means, seconds)

        versions = code_versions(spec.method, run.dataset)  # once: a file may change meanwhile
        inputs = RunInputs(spec, prepared, split, device, versions)
        result, weights = train_or_record_failure(
            inputs, folder, elsewhere, asked_to_stop=asked_to_stop, tell=tell,
            checkpoint_seconds=options.checkpoint_seconds,
        )
        record = compile_record(inputs, result, run.request.command)
        folder.lock.check()
        if digest(path) != there:  # a record was copied here meanwhile
            if result.status != "done":
                return existing_record(path, run, {"": prepared.fingerprint}), True
            kept = set_aside(path.with_suffix(".npz"), path)
            logger.warning(f"another process wrote a record while this run trained; it is kept in {kept}")
        if result.status != "done":
            if result.status != "failed":  # what diverges does so again
                folder.checkpoint.unlink(missing_ok=True)
            return write_record(path.parent, record, None), False
        record["weights_sha256"] = model_file.weights_digest(weights)
        if options.keep != "nothing":
            model_file.write(folder.path, model_file.describe(spec, prepared, split, record["weights_sha256"]))
            folder.save_weights(weights)
        folder.save_masks(result.masks)
        folder.lock.check()
        record = write_record(path.parent, record, result.counts)
        if options.keep != "all":
            folder.checkpoint.unlink(missing_ok=True)
        return record, False


def _may_run(path: Path, found: str, options: RunOptions) -> bool:
    """Whether the run is to be made although a record with the digest `found` is at `path`."""
    if options.expected_digest is not None:
        return found == options.expected_digest
    return options.overwrite or read_record(path)["status"] == "failed"


def load_data(run: ResolvedRun, raw: str | None) -> tuple[PreparedData, Split, list[Elsewhere]]:
    """The data and lists of a run, its pools joined, and the images of other data that it is scored on, too.

    UserError where it would learn from all of these."""
    size = run.spec.values["data.size"]
    split, *others = found = [
        (load_prepared(dataset, size, raw=raw).part(lists.file), lists)
        for dataset, lists in ((run.dataset, run.split), *run.elsewhere)
    ]
    for warning in (text for data, lists in found for text in check_split_matches_data(lists, data)):
        logger.warning(warning)
    joined, lists = split
    if run.pools:
        own, scored = pools.OWN in run.spec.values["data.unlabelled"], [(data, there.test) for data, there in others]
        joined, lists = pools.join(*split, run.pools, own=own, raw=raw, scored=scored)
    trained_on = {*joined.hashes_of((*lists.labelled, *lists.unlabelled, *lists.pool))}
    return joined, lists, [Elsewhere(data, there, *scorable(data, there.test, trained_on)) for data, there in others]


def existing_record(path: Path, run: ResolvedRun, now: Mapping[str, str | None]) -> dict[str, Any]:
    """The record at `path`; UserError where it is stale, as data with these fingerprints tell, or its counts are
    damaged."""
    record = read_record(path)
    if (how := staleness(record, code_versions(run.spec.method, run.dataset), run.lists, now)) is not None:
        other = ""
        if run.dataset.home and now[""] not in (None, record["data"].get("fingerprint")):
            other = f". If it is of another data set, give this one another name in {run.dataset.home / 'dataset.yaml'}"
        raise UserError(f"{run.spec.run_id} is stale: {how}{other}; --overwrite runs it again "
                        "and keeps the old record as .old1")
    read_counts(path, record)
    return record


def archive_run(folder: RunFolder, path: Path) -> None:
    """Archive the record at `path`, so that its run, which this process has locked, starts anew."""
    set_aside(path.with_suffix(".npz"), path)
    for name in OF_RECORD:
        (folder.path / name).unlink(missing_ok=True)


def train_or_record_failure(
    inputs: RunInputs, folder: RunFolder, elsewhere: Sequence[Elsewhere], **loop: Any
) -> tuple[TrainResult, dict[str, torch.Tensor]]:
    """Train, and score elsewhere, too; `loop` is for the training loop. What training raises is a result, too, and its
    traceback is kept."""
    report = folder.path / "error.txt"
    report.unlink(missing_ok=True)  # of an earlier attempt
    begun = time.perf_counter()
    try:
        training = build_training(*inputs)
        try:
            result = train(training, folder, **loop)
        except StaleCheckpoint as error:
            logger.warning(f"{error} and is kept as {set_aside(folder.checkpoint)}; the run starts anew")
            result = train(training, folder, **loop)
        if result.status == "done":
            for there in elsewhere:
                score_elsewhere(training, result, there)
        return result, {name: tensor.cpu() for name, tensor in training.method.state_dict().items()}
    except NotApplicable as reason:
        return TrainResult("skipped", str(reason)), {}
    except (UserError, Interrupted):
        raise
    except Exception as error:
        if (hint := known_failure_hint(error, inputs.spec)) is None:
            write_text(report, traceback.format_exc())
            own = own_files(METHODS.load(inputs.spec.method))
            hint = f"{in_words(error, own)} (traceback in {report.relative_to(folder.path.parents[1])})"
        return TrainResult("failed", hint, cost={"wall_seconds": time.perf_counter() - begun}), {}


def score_elsewhere(training: Training, result: TrainResult, there: Elsewhere) -> None:
    """Score a finished run on the test images of other data: counts and masks are called <data set>:<name>."""
    data, lists, ids, left_out = there
    name, evaluator = data.name, training.evaluator.on(data, ids)
    counts, masks = evaluator.finalise(training.method, evaluator.evaluate(training.method, 0))
    result.counts |= {f"{name}:{key}": counts[key] for key in counts if key.startswith(STRICT)}
    result.masks |= {f"{name}:{key}": mask for key, mask in masks.items()}
    result.elsewhere[name] = pools.facts(data, ids) | {
        "split": lists.name, "fold": lists.fold, "split_fingerprint": lists.fingerprint, "test": len(ids),
        "left_out": left_out, "scores": {"strict": scores(counts)["strict"]},
    }


def in_words(error: BaseException, files: Collection[str] = ()) -> str:
    """An unforeseen exception in one line: what was raised, where, and its message where it has one.

    Where: in one of these files, if it passed any, as those of the method.
    """
    place, function = raised_at(error, files)
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(":")
    return f"{text}, raised at {place} in {function}"


def known_failure_hint(error: Exception, spec: Spec) -> str | None:
    """What to do about a failure of torch that is known; None for any other."""
    cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, torch.OutOfMemoryError) or any(sign in cause for sign in OUT_OF_MEMORY):
        half = max(1, spec.values["train.batch_labelled"] // 2)
        return (f"out of memory: {cause} Try train.batch_labelled={half}, a smaller net.name or data.size, or fewer "
                "--slots.")
    captured = spec.values["train.capture"] != "off"
    for sign, (about, advice) in HINTS.items():
        if isinstance(error, RuntimeError) and sign in cause and (captured or sign != CAPTURE):
            return f"{about}: {cause} {advice}"
    return None


def compile_record(inputs: RunInputs, result: TrainResult, command: str) -> dict[str, Any]:
    """The record of a run that `command` asked for, but for the digests of weights and counts."""
    spec, prepared, split, device, versions = inputs
    environment = devices.environment(device)
    earlier = [each for each in result.environments if each != environment]  # the run was continued on another machine
    sparse = annotation_of(spec, prepared, split)
    return {
        "schema": SCHEMA,
        "run_id": spec.run_id,
        "status": result.status,
        "reason": result.reason,
        "exact": not earlier and (device.type == "cpu" or bool(spec.values["train.deterministic"])),
        "spec": spec.to_json(),
        "data": {
            "fingerprint": prepared.fingerprint,
            "arrays_fingerprint": prepared.arrays_fingerprint,
            "split_fingerprint": split.fingerprint,
            "labelled": len(split.labelled),
            "unlabelled": len(split.unlabelled) + len(split.pool),
            "validation": len(split.validation),
            "test": len(split.test),
        } | ({"labelled_ids": list(split.labelled)} if "+" in split.name else {})  # of a list that is the user's own
          | ({"annotation": sparse.facts} if sparse else {})
          | ({"sources": pools.sources(prepared, split)} if prepared.pools or result.elsewhere else {}),
        "scores": scores(result.counts) if result.status == "done" else {},
        "cost": result.cost,
        "weights_sha256": None,
        "numerics": versions,
        "environment": environment | ({"earlier": earlier} if earlier else {}),
        "history": result.history,
        "command": command,
    } | ({"elsewhere": result.elsewhere} if result.elsewhere else {})
