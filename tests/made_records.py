"""Records and counts made by hand, for tests of the report."""

from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np

from benchmark import protocols
from benchmark.report.gather import group_experiment, group_runs
from benchmark.report.results_frame import ExpectedRun, Group
from benchmark.runs.experiment import Experiment

THRESHOLDS = (np.arange(45) * 0.02).astype(np.float32)
NOTHING_THERE = (0, 0, 0)
PATIENTS = "ppqqrr"
Counts = dict[str, np.ndarray]


def made_counts(seed: int = 0, images: int = 6, evaluations: int = 3, validation: bool = True) -> Counts:
    """Counts of made predictions at two outputs; `raw_*` hold the probabilities and masks that they come from."""
    random = np.random.default_rng(seed)
    made: Counts = {
        "thresholds": THRESHOLDS, "steps": np.arange(1, evaluations + 1) * 10, "outputs": np.array(["main", "other"]),
    }
    for name, n in (("test", images), ("validation", 3 if validation else 0)):
        if not n:
            continue
        mask = random.random((n, 8, 8)) > 0.5
        noise = random.random((evaluations, 2, n, 8, 8))
        probability = np.clip(0.35 * mask + 0.65 * noise, 0, 1).astype(np.float32)
        counts = np.stack([counted(probability > threshold, mask) for threshold in THRESHOLDS], 3)  # [E, O, n, T, 3]
        made[f"{name}_pooled"] = counts.sum(2)
        made[f"{name}_images"] = counts[-1].swapaxes(0, 1)
        made[f"{name}_ids"] = np.array([f"{name}_{i}" for i in range(n)])
        large = mask.repeat(2, 1).repeat(2, 2)
        found = probability[-1].repeat(2, 2).repeat(2, 3) > 0.45
        made[f"{name}_native"] = counted(found, large).swapaxes(0, 1)
        made[f"raw_{name}"], made[f"raw_{name}_mask"] = probability, mask
    made["test_pixels"] = np.full(images, 256)
    made["test_groups_patient"] = np.array([f"p{i // 2}" for i in range(images)])
    return made


def counted(found: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """TP, FP, FN over the last two axes."""
    return np.stack([(found & mask).sum((-1, -2)), (found & ~mask).sum((-1, -2)), (~found & mask).sum((-1, -2))], -1)


def record(
    method: str = "alpha", ratio: int = 20, fold: int = 0, seed: int = 0, counts: Counts | None = None,
    status: str = "done", reason: str | None = None, device: str = "a CPU", values: dict[str, Any] | None = None,
    fingerprint: str = "f" * 64, dataset: str = "made", **other: Any,
) -> tuple[dict[str, Any], Counts]:
    """A record with its counts, as a run writes them."""
    counts = (made_counts(fold) if counts is None else counts) if status == "done" else {}
    content = {
        "schema": 1, "run_id": f"{crc32(method.encode())}-{ratio}-{fold}-{seed}-{len(str(values))}", "status": status,
        "reason": reason, "exact": True, "weights_sha256": None, "history": [],
        "spec": {
            "method": method, "dataset": dataset, "split": "official", "ratio": ratio, "fold": fold, "seed": seed,
            "preset": "quick", "values": values or {},
        },
        "data": {"fingerprint": fingerprint, "split_fingerprint": f"{ratio}/{fold}", "labelled": 17, "unlabelled": 68},
        "scores": protocols.scores(counts) if counts else {},
        "cost": {"parameters_trained": 1234567, "seconds_per_step": 0.5, "peak_memory_bytes": None},
        "numerics": {"engine": 1, "method": 1}, "environment": {"device": device},
    }  # fmt: skip
    return content | other, counts


def native(*rows: tuple[int, int, int], patients: str = "") -> Counts:
    """Counts with hand-made native ones; patients as letters."""
    counts = made_counts(images=len(rows))
    counts["test_native"] = np.array(rows)[:, None].repeat(2, 1)
    counts["test_groups_patient"] = np.char.strip(np.array(list(patients or " " * len(rows))))
    return counts


def tenths(
    method: str, values: list[int | None], fold: int = 0, patients: str = PATIENTS,
    known: dict[str, list[str]] | None = None, **other: Any,
) -> tuple[dict[str, Any], Counts]:
    """A finished run whose images have these Dice, in tenths; None is undefined. known: what is known of the images."""
    rows = [NOTHING_THERE if value is None else (value, 10 - value, 10 - value) for value in values]
    counts = native(*rows, patients=patients[: len(rows)])
    counts |= {f"test_groups_{name}": np.array(of) for name, of in (known or {}).items()}
    return record(method, fold=fold, counts=counts, **other)


def only(*records: Any, reference: str | None = None) -> Group:
    """The one group that these records make."""
    (group,) = group_runs(records)
    return replace(group, reference=reference)


def expected(row: str, made: dict[str, Any], **other: Any) -> ExpectedRun:
    """What an experiment says of a made record."""
    spec = {**made["spec"], **{key: other.pop(key) for key in ("fold", "ratio") if key in other}}
    return ExpectedRun(row, other.pop("run_id", made["run_id"]), spec, **other)


def of_experiment(
    records: list[Any], plan: list[ExpectedRun], reference: str | None = None, **more: Any
) -> list[Group]:
    """The groups of an experiment called `mine`."""
    return group_experiment(Experiment("mine", "About it.", (), reference), records, plan, **more)


def a_thousand_records() -> Group:
    """50 rows at 4 label ratios and 5 draws, compared with the first."""
    shared = [made_counts(seed, images=40, evaluations=10) for seed in range(5)]
    history = [{"step": 10 * k, "supervised": 1 / k, "unlabelled": 0.1} for k in range(1, 11)]
    records = [
        record(f"method_{name:02}", ratio=ratio, fold=fold, counts=shared[fold], history=history)
        for name in range(50) for ratio in (5, 10, 20, 50) for fold in range(5)
    ]  # fmt: skip
    return only(*records, reference="method_00")
