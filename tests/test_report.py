"""The report against hand calculations on records made by hand."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from benchmark import protocols
from benchmark.errors import UserError
from benchmark.report.build import build
from benchmark.report.cells import Group, Wanted, group_experiment, group_runs
from benchmark.report.gap import gap_table, waterfall_table
from benchmark.report.markdown import escape
from benchmark.report.tables import EVERYTHING, failure_table, object_table, score_cell, score_table
from benchmark.report.warnings import doubts
from benchmark.runs.records import read_records, write_record
from tests.conftest import invoke, one_line_error

THRESHOLDS = (np.arange(45) * 0.02).astype(np.float32)
Evidence = dict[str, np.ndarray]


def evidence(seed: int = 0, images: int = 6, evaluations: int = 3, validation: bool = True) -> Evidence:
    """Counts of made predictions at two outputs; `raw_*` hold the probabilities and masks that they come from."""
    random = np.random.default_rng(seed)
    made: Evidence = {
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
    method: str = "alpha", ratio: int = 20, fold: int = 0, seed: int = 0, counts: Evidence | None = None,
    status: str = "done", reason: str | None = None, device: str = "a CPU", values: dict[str, Any] | None = None,
    fingerprint: str = "f" * 64, dataset: str = "made", **other: Any,
) -> tuple[dict[str, Any], Evidence]:
    """A record with its counts, as the engine writes them."""
    counts = (evidence(fold) if counts is None else counts) if status == "done" else {}
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


def native(*rows: tuple[int, int, int], patients: str = "") -> Evidence:
    """Counts with hand-made native ones; patients as letters."""
    counts = evidence(images=len(rows))
    counts["test_native"] = np.array(rows)[:, None].repeat(2, 1)
    counts["test_groups_patient"] = np.array(list(patients or " " * len(rows)))
    counts["test_groups_patient"] = np.char.strip(counts["test_groups_patient"])
    return counts


def only(records: list[tuple[dict[str, Any], Evidence]]):
    (group,) = group_runs(records)
    return group


def made(results: Path, protocol: str = "strict", formats: tuple[str, ...] = ("md",)):
    """A report of all records in a results folder."""
    return build(group_runs(read_records(results / "records")), results, "the command", protocol, formats)


# Protocols


def test_oracle_search_equals_a_calculation_from_the_raw_predictions() -> None:
    counts = evidence(7)
    scores = protocols.scores(counts)

    def pooled_jaccard(found: np.ndarray, mask: np.ndarray) -> float:
        return (found & mask).sum() / (found | mask).sum()

    best: tuple[float, Any] = (-1, None)
    for e in range(3):
        for o in range(2):
            for threshold in THRESHOLDS:
                value = pooled_jaccard(counts["raw_test"][e, o] > threshold, counts["raw_test_mask"])
                best = max(best, (value, (counts["steps"][e], counts["outputs"][o], threshold)), key=lambda b: b[0])
    assert scores["paper"]["jaccard"] == pytest.approx(best[0], abs=1e-12)
    assert scores["paper"]["dice"] == pytest.approx(2 * best[0] / (1 + best[0]), abs=1e-12)
    assert (scores["paper"]["step"], scores["paper"]["output"]) == best[1][:2]
    assert scores["paper"]["threshold"] == pytest.approx(best[1][2], abs=1e-6)

    best = (-1, None)
    for e in range(3):
        for threshold in THRESHOLDS:
            value = pooled_jaccard(counts["raw_validation"][e, 0] > threshold, counts["raw_validation_mask"])
            best = max(best, (value, (e, threshold)), key=lambda b: b[0])
    e, threshold = best[1]
    expected = pooled_jaccard(counts["raw_test"][e, 0] > threshold, counts["raw_test_mask"])
    assert scores["validation"]["jaccard"] == pytest.approx(expected, abs=1e-12)
    assert scores["validation"]["step"] == counts["steps"][e]

    found, mask = counts["raw_test"][-1, 0] > 0.45, counts["raw_test_mask"]
    each = [2 * (f & m).sum() / (f.sum() + m.sum()) for f, m in zip(found, mask, strict=True)]
    assert scores["strict"]["dice"] == pytest.approx(np.mean(each), abs=1e-12)
    json.dumps(scores, allow_nan=False)


def test_undefined_dice_is_excluded_and_counted() -> None:
    scores = protocols.scores(native((8, 2, 2), (0, 0, 0), (0, 3, 0)))
    assert scores["strict"] == {"dice": pytest.approx(0.4), "jaccard": pytest.approx(1 / 3), "n": 3, "undefined": 1}
    empty = native((0, 0, 0), (0, 0, 0))
    empty["test_pooled"] = np.zeros_like(empty["test_pooled"])
    scores = protocols.scores(empty)
    assert scores["strict"]["dice"] is None and scores["paper"]["dice"] is None and scores["paper"]["reason"]
    json.dumps(scores, allow_nan=False)
    assert protocols.waterfall(empty) is None


def test_validation_is_null_with_a_reason_without_a_list() -> None:
    scores = protocols.scores(evidence(validation=False))
    assert scores["validation"]["dice"] is None and "no validation images" in scores["validation"]["reason"]


def test_measured_distances_that_are_infinite_are_counted_not_hidden() -> None:
    counts = evidence(images=2) | {"test_objects": np.array([[1, 1, 4], [0, 0, np.inf]])}
    counts["test_surface"] = np.array([[3, 1], [np.nan, np.nan]])
    strict = protocols.scores(counts)["strict"]
    assert (strict["object_f1"], strict["object_hausdorff"], strict["object_hausdorff_excluded"]) == (0.5, 4, 1)
    assert (strict["hd95"], strict["hd95_excluded"], strict["asd_excluded"]) == (3, 1, 1)
    json.dumps(strict, allow_nan=False)
    table = object_table(only([record(counts=counts)]))
    assert table and table.rows[0][2:] == ["50.00 (n=1)", "50.00 (n=1)", "4.00 (n=1)", "3.00 (n=1)", "1.00 (n=1)"]
    assert "3 single values" in table.notes[0]


@pytest.mark.parametrize("seed", range(5))
def test_waterfall_adds_up_exactly(seed: int) -> None:
    counts = evidence(seed)
    stages = protocols.waterfall(counts)
    scores = protocols.scores(counts)
    assert stages and [stage.name for stage in stages] == list(protocols.STAGES)
    assert stages[0].dice == scores["paper"]["dice"] and stages[-1].dice == scores["strict"]["dice"]
    total = sum((stage.change for stage in stages), Fraction())
    assert total == Fraction(scores["strict"]["dice"]) - Fraction(scores["paper"]["dice"])
    assert all(stage.change <= 0 for stage in stages[:4])  # each takes a choice away from a maximum


def test_printed_waterfall_adds_up() -> None:
    table = waterfall_table(only([record(fold=fold, counts=evidence(fold)) for fold in range(3)]))
    assert table
    first, *changes, last = (Fraction(cell) for cell in table.rows[0][2:])
    assert first + sum(changes) == last
    gap = gap_table(only([record(fold=fold, counts=evidence(fold)) for fold in range(3)])).rows[0]
    assert Fraction(gap[4]) - Fraction(gap[2]) == Fraction(gap[5]) and Fraction(gap[4]) == first


def test_everything_is_foreground() -> None:
    counts = native((10, 5, 6), (0, 0, 64)) | {"test_pixels": np.array([64, 64])}
    assert protocols.everything_is_foreground(counts) == pytest.approx((2 * 16 / (16 + 64) + 1) / 2)
    table = score_table(only([record(counts=counts)]), "strict")
    assert list(table.rows[-1]) == [EVERYTHING, "70.00"]
    del counts["test_pixels"]
    assert protocols.everything_is_foreground(counts) is None


# Tables


def test_cells_by_hand() -> None:
    draws = [native((8, 2, 2), (6, 4, 4)), native((9, 1, 1), (7, 3, 3)), native((5, 5, 5), (5, 5, 5))]  # .7, .8, .5
    whole = [record("alpha", fold=fold, counts=counts) for fold, counts in enumerate(draws)]
    part = [record("beta", fold=fold, counts=counts) for fold, counts in enumerate(draws[:2])]
    lost = [record("beta", fold=2, status="diverged", reason="'supervised' was nan at step 7 of 60")]
    declined = [record("gamma", fold=fold, status="skipped", reason="needs unlabelled images") for fold in range(3)]
    group = only(whole + part + lost + declined)
    cells = {label: score_cell(group, label, 20, "strict", "dice") for label in group.labels}
    assert cells["alpha"].startswith("66.67 ± 15.28 (n=3) [")
    assert cells["beta"].startswith("75.00 ± 7.07 (2/3) [")
    assert cells["gamma"] == "skipped (0/3)"
    failures = failure_table(group)
    assert failures and [row[5] for row in failures.rows].count("needs unlabelled images") == 3
    assert ["beta", "20 %", "2", "0", "diverged", "'supervised' was nan at step 7 of 60"] in list(failures.rows)
    assert score_table(group, "strict").header == ["method", "20 % (17+68)"]
    low, high = (float(value) for value in cells["alpha"].split("[")[1].rstrip("]").split(", "))
    assert (low, high) == pytest.approx((60.0, 73.33), abs=0.01)  # two images, .7333 and .6


def test_one_run_only_has_no_spread() -> None:
    group = only([record(counts=native((8, 2, 2), patients="p"))])
    assert score_cell(group, "alpha", 20, "strict", "dice") == "80.00 (n=1)"
    assert score_cell(group, "alpha", 10, "strict", "dice") == "–"
    assert failure_table(group) is None


def test_pooled_protocols_have_no_interval_and_say_so() -> None:
    group = only([record(counts=evidence(validation=False))])
    assert "[" not in score_cell(group, "alpha", 20, "paper", "dice")
    assert score_cell(group, "alpha", 20, "validation", "dice") == "no score (0/1)"
    assert "No interval" in score_table(group, "paper").caption
    assert "no validation images" in score_table(group, "validation").notes[0]


def wanted(row: str, made: dict[str, Any], **other: Any) -> Wanted:
    """What an experiment says of a made record."""
    spec = {**made["spec"], **{key: other.pop(key) for key in ("fold", "ratio") if key in other}}
    return Wanted(row, other.pop("run_id", made["run_id"]), spec, **other)


def test_an_experiment_names_and_orders_its_rows_and_says_what_is_missing() -> None:
    first, second = record("zeta", fold=0), record("alpha", fold=0)
    plan = [wanted("last letter", first[0])]
    plan += [wanted("last letter", first[0], fold=fold, run_id=f"x{fold}", missing="missing") for fold in (1, 2)]
    plan += [wanted("nobody", second[0], run_id="y", missing="excluded", reason="it never ends")]
    plan += [wanted("old", second[0], run_id="z", missing="stale", reason="other code"), wanted("alpha", second[0])]
    (group,) = group_experiment("mine", [first, second], plan, "About it.", "alpha")
    assert group.labels == ("last letter", "nobody", "old", "alpha") and group.name == "mine"
    cells = [score_cell(group, label, 20, "strict", "dice").split(" [")[0] for label in group.labels]
    assert cells[0].endswith("(1/3)") and cells[1:3] == ["excluded (0/1)", "stale (0/1)"] and "n=1" in cells[3]
    assert [row[-2:] for row in failure_table(group).rows] == [["excluded", "it never ends"], ["stale", "other code"]]
    assert score_cell(group, "alpha", 10, "strict", "dice") == "–"


def test_an_experiment_of_two_data_sets_has_a_group_each_and_strange_data_another() -> None:
    here, there = record(), record(dataset="elsewhere", run_id="there")
    more, odd = record(fold=2, run_id="more"), record(fold=1, fingerprint="e" * 64)
    plan = [wanted("one", made[0]) for made in (here, more, odd, there)]
    groups = group_experiment("mine", [here, more, odd, there], plan)
    assert [group.name for group in groups] == ["mine-made", "mine-made-eeeeeeee", "mine-elsewhere"]
    assert [len(group.runs) for group in groups] == [2, 1, 1]


def test_other_settings_are_other_rows() -> None:
    records = [record(values={"method.decay": decay, "train.steps": 60}) for decay in (0.9, 0.999)]
    assert only(records).labels == ("alpha (method.decay=0.9)", "alpha (method.decay=0.999)")


def test_a_row_with_the_presets_own_settings_has_the_methods_plain_name() -> None:
    settings = [{"method.decay": 0.99, "method.weight": 5.0}, {"method.decay": 0.9, "method.weight": 5.0}]
    found = only([record("mean_teacher", values=values) for values in settings]).labels
    assert found == ("mean_teacher", "mean_teacher (method.decay=0.9)")


def test_other_data_are_other_tables() -> None:
    groups = group_runs([record(), record(fold=1, fingerprint="e" * 64)])
    assert [group.name for group in groups] == ["made-official-quick-eeeeeeee", "made-official-quick-ffffffff"]


def test_doubts_are_told() -> None:
    assert doubts(only([record(), record("beta")])) == []
    mixed = [
        record(),
        record("beta", numerics={"engine": 2, "method": 1}),
        record(fold=1, numerics={"engine": 1, "method": 5}),
        record("gamma", data={"fingerprint": "f" * 64, "split_fingerprint": "other"}),
        record("delta", scores={"strict": {"dice": 0.99}}),
        record(),
    ]
    told = " ".join(doubts(only(mixed)))
    for words in ("of the engine", "of the method", "different lists", "not those of its counts", "several records"):
        assert words in told


# The whole


def a_thousand_records() -> Group:
    """50 rows at 4 label ratios and 5 draws, compared with the first."""
    shared = [evidence(seed, images=40, evaluations=10) for seed in range(5)]
    history = [{"step": 10 * k, "supervised": 1 / k, "unlabelled": 0.1} for k in range(1, 11)]
    records = [
        record(f"method_{name:02}", ratio=ratio, fold=fold, counts=shared[fold], history=history)
        for name in range(50) for ratio in (5, 10, 20, 50) for fold in range(5)
    ]  # fmt: skip
    assert len(records) == 1000
    return replace(only(records), reference="method_00")


def test_a_thousand_records_are_reported_in_seconds(tmp_path: Path) -> None:
    group = a_thousand_records()
    begun = time.process_time()
    report = build([group], tmp_path, "the command", formats=("md", "tex", "csv", "html"))
    assert len(report.paths) == 4 and time.process_time() - begun < 10  # figures are in docs/performance.md


def write(results: Path, records: list[tuple[dict[str, Any], Evidence]]) -> None:
    for made, counts in records:
        write_record(results / "records", made, counts or None)


def test_same_records_give_the_same_text(tmp_path: Path) -> None:
    records = [record(name, fold=fold, counts=evidence(fold)) for name in ("alpha", "beta") for fold in range(3)]
    texts = []
    for folder, order in (("one", records), ("two", records[::-1])):
        write(tmp_path / folder, order)
        report = made(tmp_path / folder)
        texts.append(report.text)
        assert report.paths == [tmp_path / folder / "tables" / "made-official-quick.md"]
        assert report.paths[0].read_text(encoding="utf-8") == report.text
    assert texts[0] == texts[1] and str(tmp_path) not in texts[0]
    assert made(tmp_path / "one", "paper").paths[0].name == "made-official-quick-paper.md"


def test_devices_do_not_share_a_cost_table(tmp_path: Path) -> None:
    write(tmp_path, [record(), record("beta", device="a GPU")])
    text = made(tmp_path).text
    assert "1 on a CPU, 1 on a GPU" in text
    assert "On a CPU" in text and "On a GPU" in text and text.count("### Cost") == 2 and "1,234,567" in text


def test_names_are_escaped(tmp_path: Path) -> None:
    write(tmp_path, [record("<script>|x_y*`\n", reason="a|b"), record("bad", status="failed", reason="x | <b>\n\ny")])
    text = made(tmp_path).text
    assert "<" not in text and r"&lt;script&gt;\|x_y\*\`" in text and r"x \| &lt;b&gt; y" in text
    assert escape("[a](b) [1, 2] _so_ a_b \\") == r"[a\](b) [1, 2] \_so\_ a_b \\"


def test_user_errors(tmp_path: Path) -> None:
    assert "no records to report" in one_line_error(invoke("report", "--results", tmp_path))
    assert "no records of experiment demo" in one_line_error(invoke("report", "demo", "--results", tmp_path))
    assert "Did you mean 'demo'" in one_line_error(invoke("report", "dmeo", "--results", tmp_path))
    write(tmp_path, [record()])
    with pytest.raises(UserError, match="Did you mean 'strict'"):
        made(tmp_path, "strikt")
    assert "unknown format 'doc'" in one_line_error(invoke("report", "--format", "md,doc", "--results", tmp_path))
