"""`diagnose`: numbers by hand from counts that were made, sentences that name what is wrong, one line for a mistake."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from benchmark.cli.main import main
from benchmark.metrics.counts import CONFIDENCES
from benchmark.metrics.torch_counts import confidence_counts
from benchmark.report.diagnose import as_text, diagnose
from benchmark.report.plain_run import plain_run
from benchmark.report.results_frame import Run
from benchmark.runs.run_files import write_record
from tests.made_records import record

VALUES = {"method.threshold": 0.95, "method.decay": 0.996, "method.weight": 2.0, "train.steps": 30}
PIXELS = 100  # on the validation images


def made(method="unimatch_v2", dice=(0.5, 0.6, 0.7), teacher=(0.4, 0.5, 0.6), loss=(1.0, 0.5, 0.4), sure=(),
         values=VALUES, images=(5, 6, 7), **other):
    """A run whose outputs have these Dice, whose supervised loss is this, and whose teacher labels `sure` pixels, at
    every evaluation ((wrong, right) of background, (wrong, right) of foreground). images: Dice of the validation images
    at the end, in tenths."""
    pooled = np.zeros((3, 2, 45, 3), dtype=np.int64)
    for output, wanted in enumerate((dice, teacher)):
        for step, value in enumerate(wanted):  # 2 TP / (2 TP + FN), with 40 pixels of foreground
            tp = round(1000 * 40 * value / (2 - value))
            pooled[step, output, :] = tp, 0, 40_000 - tp
    _, counts = record(fold=0)
    counts |= {"validation_pooled": pooled, "steps": np.array([10, 20, 30])}
    counts["validation_native"] = np.array([(tenth, 10 - tenth, 10 - tenth) for tenth in images])[:, None].repeat(2, 1)
    counts["outputs"] = np.array(["student", "teacher"])
    if sure:
        confidence = np.zeros((3, 2, 2, 2, 100), dtype=np.int64)
        confidence[:, 1, :, :, 97] = np.array(sure) * 1000
        confidence[:, 1, 0, 1, 60] = 1000 * PIXELS - confidence[:, 1].sum((1, 2, 3))  # the others: background, right
        counts["validation_confidence"] = confidence
    content, _ = record(method, counts=counts, values=values, **other)
    content["history"] = [{"step": s, "supervised": v, "other": 9.0} for s, v in zip((10, 20, 30), loss, strict=True)]
    return Run(content, counts)


def part(run, number, plain=None):
    return diagnose(run, plain)[number]


def test_pixels_are_counted_by_class_truth_and_confidence():
    random = np.random.default_rng(0)
    logits, mask = random.normal(0, 2, (3, 4, 8, 8)).astype(np.float32), random.integers(0, 4, (3, 8, 8))
    mask[0, :3] = 255
    counts = confidence_counts(torch.tensor(logits), torch.tensor(mask, dtype=torch.uint8)).numpy()
    prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label, confidence, known = prob.argmax(1), prob.max(1), mask != 255
    assert counts.shape == (4, 2, len(CONFIDENCES))
    for kind in range(4):
        for level in (0, 50, 95):
            sure = known & (label == kind) & (confidence >= np.float32(level / 100))
            wanted = (sure & (mask != kind)).sum(), (sure & (mask == kind)).sum()
            assert tuple(counts[kind, :, level:].sum(-1)) == wanted


def test_two_classes_count_every_value_of_the_mask_as_foreground_and_a_confidence_of_one():
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]]).view(1, 2, 1, 2)
    counts = confidence_counts(logits, torch.tensor([[[7, 255]]], dtype=torch.uint8))
    assert counts.sum() == counts[1, 1, 99] == 1


def test_share_and_precision_are_those_of_the_pixels_above_the_threshold():
    run = made(sure=((1, 9), (2, 38)))
    share, precision = part(run, 3), part(run, 4)
    assert np.allclose(share.curves["teacher"][1], 50)
    assert np.allclose(precision.curves["pseudo-labels"][1], 94)
    assert np.allclose(precision.curves["all pixels"][1], 97)
    assert np.allclose(precision.curves["background"][1], 90)
    assert np.allclose(precision.curves["foreground"][1], 95)
    assert any("Background is 60.0 % of the masks but 20.0 % of the pseudo-labels" in line for line in precision.seen)
    assert "method.threshold (now 0.95)" in precision.advice[0]


def test_a_threshold_that_moves_is_the_logged_one():
    run = made(sure=((1, 9), (2, 38)))
    for entry, threshold in zip(run.record["history"], (0.98, None, 0.5), strict=True):
        entry["threshold"] = threshold
    assert np.allclose(part(run, 3).curves["teacher"][1], [0, 50, 100])


def test_a_logged_threshold_of_0_gives_every_pixel_a_pseudo_label():
    run = made(sure=((1, 9), (2, 38)))
    for entry in run.record["history"]:
        entry["threshold"] = 0.0
    assert np.allclose(part(run, 3).curves["teacher"][1], 100)


def test_pseudo_labels_are_those_of_the_output_that_the_method_names():
    run = made("semimoe", sure=((1, 9), (2, 38)))
    run.counts["validation_confidence"] = run.counts["validation_confidence"][:, ::-1]  # those of the first output
    run.counts["outputs"] = np.array(["fused", "expert"])
    assert np.allclose(part(run, 3).curves["fused"][1], 50)


def test_without_a_threshold_pixels_are_predictions_and_nothing_is_said_of_how_they_are_used():
    run = made(sure=((1, 9), (2, 38)), values={})
    assert np.allclose(part(run, 4).curves["predictions"][1], 97)
    assert any("the method may use fewer" in line for line in part(run, 3).seen)
    assert "pseudo-label" not in as_text(run, diagnose(run, None))


def test_the_level_that_was_counted_is_printed():
    run = made(sure=((1, 9), (2, 38)), values=VALUES | {"method.threshold": 0.979})
    told = " ".join(part(run, 3).seen)
    assert "at least 97 % sure of 50.0 %" in told and "The threshold is 0.979" in told
    assert "The threshold is" not in " ".join(part(made(sure=((1, 9), (2, 38))), 3).seen)


def test_one_output_is_not_called_a_teacher():
    run = made()
    run.counts["outputs"] = run.counts["outputs"][:1]
    assert part(run, 2).seen == ["There is one output (student), and so nothing to compare."]


def test_the_difference_has_an_interval_over_images_and_no_weight_is_blamed_for_chance():
    worse, plain = made(dice=(0.7, 0.6, 0.5), images=(2, 5, 4)), made("supervised", images=(5, 6, 7))
    found = part(worse, 0, plain)
    assert "is -23.3 points [-30.0, -10.0]: mean over 3 validation images" in found.seen[1]
    assert "may be chance" not in found.seen[1] and "lower method.weight" in found.advice[0]
    chance = part(made(dice=(0.7, 0.6, 0.5), images=(2, 8, 4)), 0, plain)
    assert "is -13.3 points [-30.0, +20.0]" in chance.seen[1] and "may be chance" in chance.seen[1]
    assert chance.advice == ["Train shorter (train.steps): it may learn its own mistakes."]


@pytest.mark.parametrize("number, change, words", [
    (0, {"dice": (0.7, 0.6, 0.5)}, "best evaluation was at step 10, 20.0 points above the end"),
    (0, {}, "still rises"),
    (1, {"loss": (1.0, 1.0, 0.95)}, "hardly falls"),
    (2, {}, "teacher is 10.0 points worse than student"),
    (2, {}, "Lower method.decay"),
    (2, {"teacher": (0.5, 0.6, 0.7)}, "Raise method.decay"),
    (3, {}, "--overwrite"),
    (3, {"sure": ((0, 0), (0, 1))}, "lower method.threshold"),
    (4, {"sure": ((0, 0), (0, 0))}, "there are none"),
    (4, {"sure": ((20, 20), (5, 40))}, "Many are wrong"),
    (4, {"sure": ((20, 20), (5, 40))}, "Those of background are right in 50.0 % only"),
])  # fmt: skip
def test_what_is_wrong_is_named(number, change, words):
    found = part(made(**change), number)
    assert any(words in line for line in found.seen + found.advice)


def test_a_threshold_is_not_to_be_raised_and_lowered_at_once():
    wrong = made(sure=((1, 0), (1, 2)))  # few, and many of them wrong
    advice = " ".join(part(wrong, 3).advice + part(wrong, 4).advice)
    assert "raise method.threshold" in advice and "lower method.threshold" not in advice


def test_a_sound_run_gets_no_advice():
    sound = made(dice=(0.6, 0.7, 0.705), teacher=(0.61, 0.71, 0.72), sure=((1, 40), (1, 30)))
    plain = made("supervised", dice=(0.5, 0.6, 0.65))
    assert [part.advice for part in diagnose(sound, plain)] == [[]] * 5


def test_the_loss_is_compared_with_the_plain_run_unless_it_sums_several():
    plain = made("supervised", loss=(1.0, 0.4, 0.2), images=(9, 9, 9))
    assert "Train longer, or lower method.weight (now 2)." in part(made(), 1, plain).advice
    values = {"method.weight_max": 5.0, "train.steps": 30}
    assert "Train longer, or lower method.weight_max (now 5)." in part(made("semimoe", values=values), 1, plain).advice
    helped = part(made(images=(9, 9, 9)), 1, made("supervised", loss=(1.0, 0.4, 0.2), images=(5, 6, 7)))
    fading = part(made(dice=(0.7, 0.6, 0.5)), 1, plain)
    assert "fits the labelled images less" in helped.seen[-1] and not helped.advice
    assert "fits the labelled images less" in fading.seen[-1] and not fading.advice, "or: train shorter and longer"
    summed = part(made(loss=(2.0, 1.0, 0.8)), 1, plain)
    assert not summed.advice and "several networks" in " ".join(summed.seen)


def test_the_plain_run_is_of_the_same_draw_and_the_nearest_settings(tmp_path):
    other = VALUES | {"train.steps": 60}
    for run in (made("supervised", values=other), made("supervised"), made("supervised", seed=1),
                made("fixmatch"), made("supervised", ratio=10), made("supervised", fingerprint="g" * 64, fold=2)):
        counts = {name: values for name, values in run.counts.items() if not name.startswith("raw_")}
        path = f"{run.spec['method']}-{run.spec['ratio']}-{run.spec['fold']}-{run.spec['seed']}"
        write_record(tmp_path, run.record | {"run_id": f"{path}-{run.spec['values']['train.steps']}"}, counts)
    assert plain_run(made(), tmp_path).record["run_id"] == "supervised-20-0-0-30"
    (tmp_path / "supervised-20-0-0-30.json").unlink()
    far = plain_run(made(), tmp_path)
    assert "differ in train.steps" in " ".join(part(made(), 0, far).seen)
    assert plain_run(made(fold=1), tmp_path) is None


def test_a_run_is_diagnosed_in_terminal_and_page_and_mistakes_cost_a_line(tmp_path, capsys):
    folder = tmp_path / "records"
    for name, run in {"mine": made(sure=((1, 9), (2, 38))), "plain": made("supervised"), "fold": made(fold=1)}.items():
        counts = {key: values for key, values in run.counts.items() if not key.startswith("raw_")}
        write_record(folder, run.record | {"run_id": name, "command": "a command"}, counts)
    failed, _ = record("fixmatch", status="failed", reason="out of memory")
    write_record(folder, failed | {"run_id": "broken"}, None)
    bare, counts = record("fixmatch")
    counts = {key: values for key, values in counts.items() if not key.startswith(("validation", "raw_"))}
    write_record(folder, bare | {"run_id": "unvalidated"}, counts)

    def told(*words):
        code = main(["diagnose", *words, "--results", str(tmp_path)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err.strip().splitlines()

    code, out, _ = told("mine")
    assert code == 0 and "plain, without unlabelled images" in out and "94.0 % of them are right" in out
    page = (tmp_path / "pages" / "diagnose-mine.html").read_text()
    assert page.count("data:image/png;base64,") == 5 and "94.0 % of them are right" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    for words, needle in (
        (["broken"], "broken is failed (out of memory)"), (["unvalidated"], "no validation images"),
        (["plain"], "uses no unlabelled images"), (["nosuch"], "no finished run"),
        (["mine", "--against", "fold"], "fold has another fold than mine"),
        (["mine", "--against", "mine"], "mine learns from unlabelled images itself"),
    ):  # fmt: skip
        code, out, err = told(*words)
        assert code == 2 and not out and len(err) == 1 and needle in err[0], err
    (folder / "mine.json").write_text(json.dumps({"schema": 1}))
    assert told("mine")[0] != 0


def test_the_text_has_each_question_once():
    run = made(sure=((1, 9), (2, 38)))
    text = as_text(run, diagnose(run, None))
    assert sum(line.endswith("?") for line in text.splitlines()) == 5
