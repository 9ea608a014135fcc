"""docs/methods.md, written from the sources, the presets, the tests and the records: `python -m tools.methods_page`."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator

import numpy as np
import torch

from benchmark.config.compose import compose
from benchmark.config.schema import fields_of, tuning_of
from benchmark.data.load import load_dataset
from benchmark.data.splits import load_split
from benchmark.metrics.counts import dice
from benchmark.ranges import allowed
from benchmark.registry import METHODS, Entry
from benchmark.report.render import DASH, Table, escape_markdown, markdown, part
from benchmark.report.results_frame import Run
from benchmark.spec import Spec
from benchmark.training.setup import build_method
from tools.document_tables import ROOT, across, group_of, in_points, mean, signed, table

PAGE = ROOT / "docs" / "methods.md"
PARITY = ROOT / "tools" / "parity" / "figures.json"
INTRODUCTION = """# Methods

<!-- Written by `python -m tools.methods_page` from methods/, configs/presets/, tests/ and results/; CI keeps it so. -->

Each method is one file in `methods/`. Its defaults follow the original paper. Where the paper gives no value for such
a setting, they are those of published code. No default is tuned. Where published code differs from the paper, its way
is an option or is named under *Differs from published code*. The preset `paper` has the settings behind the published
tables, each with its source (`unknown`: a guess). The column `tune` has the range that
[`tune`](grids.md#an-equal-tuning-budget) draws from; beside these it draws the learning rate of every method, from a
quarter of the configured one to four times that. Parameters are counted under `paper` at 256 px. Every mechanism has
tests of its own, and every method passes the conformance suite (`python -m benchmark check all`).

All methods share some things that their papers do otherwise:

- **One learning rate for all parameters**, but for Semi-MoE's loss weights and Cross Teaching's transformer. With a
  pretrained encoder, papers of natural images give the rest of the network ten times its rate (UniMatch V2: forty
  times).
- **The supervised loss is the configured one**, cross-entropy plus Dice in most presets. A weight that a paper has
  beside half of that sum is doubled, but for TopoSemiSeg's. A weight that it has beside cross-entropy alone, or Dice
  alone, is kept: then the unlabelled images weigh less here than there, by up to a half.
- **Each view passes through the network by itself**, and BatchNorm normalises it by itself, but for the two strong
  views of UniMatch V2 and the passes of UA-MT, as there. Many published codes join labelled and unlabelled images in
  one batch.
- **A moving average counts steps, as in the papers**, where training has 6,000 steps or more. `light` has 400: there a
  decay of 0.99 averages over the last quarter of training, and 0.999 over all of it. Ramps are shares of training, of
  the length that their source gives them.
- **The student is official**, where there is a teacher, also where the paper reports the teacher. The other output is
  scored, too.

Where a section has a table *beside the released code*, both were run on the same logits, labels and masks, drawn at
random by a seed, in float64. Of the released script the training step itself was run, from the head of its loop to
`optimizer.zero_grad()`, with these logits in place of its networks and without CUDA. Ours are the terms that the
method's `losses` gives for them. None of that code is in this repository. The figures are of
`python -m tools.parity FOLDER`, where FOLDER has a clone of each repository (it needs `pip install einops`). *Apart* is
the difference, or the largest one of a tensor whose mean stands beside it. A row without a reason must be below 1e-5.
"""
LOWER = "supervised"
MEASURED = """Made by `python -m benchmark grid glas_light` (160 px, an encoder pretrained on ImageNet, 400 steps on a
CPU). 17 of 85 images are labelled; `upper bound` has all 85 labels; (k/n): k of n draws are measured. Dice is in
percent at the last step, mean ± sd over draws. The difference to the lower bound is paired by draw and image. Its
interval resamples the 12 test patients of GlaS. `ensemble`, three averaged supervised networks, is the control for
capacity.

- *Other output*: the Dice of a second branch, network or teacher of the same runs.
- *Supervised loss*: the sum of a method's supervised terms (of semimoe with the learned weights and their regulariser),
  mean over the first and over the last quarter of training.
- *Foreground*: the least and the most that was predicted of any test image."""


def page() -> str:
    """The whole page."""
    entries = sorted(METHODS.entries(), key=lambda entry: (entry.year or 0, entry.name))
    measured = results_table("glas_light", "On real GlaS images, 20 % labels", MEASURED)
    return "\n".join([INTRODUCTION, measured, *(section(entry) for entry in entries)])


def section(entry: Entry) -> str:
    """One method: what it is, its hyper-parameters, its size, and the tests of its mechanism."""
    doc = entry.doc
    lines = [f"## {entry.display} (`{entry.name}`)", "", f"**{escape_markdown(doc.summary)}**"]
    for paragraph in doc.about:
        lines += ["", paragraph]
    lines += ["", "```text", *doc.loss, "```"]
    fields = fields_of(METHODS.load(entry.name))
    if fields:
        tuned = tuning_of(METHODS.load(entry.name))
        known = compose(entry.name, METHODS.load(entry.name), "glas", "paper").settings
        rows = []
        for name, field in fields.items():
            setting = known[f"method.{name}"]
            recipe = f"{text(setting.value)} ({setting.source})" if setting.layer.startswith("recipe") else DASH
            drawn = str(tuned.get(name, DASH))
            rows.append([name, allowed(field.type), text(field.default), recipe, drawn, doc.arguments[name]])
        header = ["`method.`", "allowed", "default", "`paper`", "`tune`", ""]
        lines += ["", bare_table(header, rows)]
    if doc.differs:
        lines += ["", "Differs from published code:", "", *(f"- {line}" for line in doc.differs)]
    lines += beside_released(entry.name)
    trained, net = size_under_paper(entry.name)
    lines += ["", f"Under `paper`: {net}, {trained:,} parameters trained."]
    proofs = list(mechanism_tests(entry.name))
    lines += ["", f"Proven by tests/test_{entry.name}.py:", "", *(f"- {proof}" for proof in proofs)]
    return "\n".join([*lines, ""])


def bare_table(header: list[str], rows: list[list[str]]) -> str:
    """A table without title and caption, its columns to the left."""
    return table(header, rows).rstrip().replace("\\`", "`").replace("--:", ":--")


def beside_released(name: str) -> list[str]:
    """What tools/parity found for a method; nothing where it has no comparison."""
    found = json.loads(PARITY.read_text(encoding="utf-8")).get(name)
    if found is None:
        return []
    rows = [[row["what"], f"{row['released']:.6f}", f"{row['ours']:.6f}",
             f"{row['apart']:.0e}" if row["apart"] > 1e-12 else "below 1e-12", row["why"]] for row in found["rows"]]
    title = f"Beside the released code ({found['repository']} at {found['commit'][:7]}):"
    return ["", title, "", bare_table(["", "released", "ours", "apart", "why"], rows)]


def text(value: object) -> str:
    """A setting as one would write it after `--set`."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def size_under_paper(name: str) -> tuple[int, str]:
    """Parameters that are trained under the `paper` preset, built without memory, and the network's name and source."""
    kind = METHODS.load(name)
    settings = compose(name, kind, "glas", "paper").settings
    split = load_split(load_dataset("glas"), "official", 20, 0)
    values = {key: setting.value for key, setting in settings.items()}
    spec = Spec(name, "glas", "official", 20, 0, 0, "paper", values)
    with torch.device("meta"):
        method = build_method(spec, (len(split.labelled), len(split.unlabelled), 165), 2)
    trained = {id(p): p.numel() for group in method.param_groups() for p in group.parameters}
    net = settings["net.name"]
    with torch.device("meta"):
        configured = type(method.task.network())
    used = any(type(part) is configured for part in method.modules())
    return sum(trained.values()), f"`{net.value}` ({net.source})" if used else "a network of its own"


def mechanism_tests(name: str) -> Iterator[str]:
    """The names of a method's tests, as sentences."""
    tree = ast.parse((ROOT / "tests" / f"test_{name}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name.removeprefix("test_").replace("_", " ")


def results_table(name: str, title: str, caption: str) -> str:
    """An experiment's rows at 20 % and with all labels, the best first, beside the lower bound."""
    group = group_of(name)
    cells = group.cell_scores().sort_values("mean", ascending=False, kind="stable").drop(index=10, level="ratio")
    rows = []
    for (row, ratio), score in cells.iterrows():
        runs, name = group.finished(row, ratio), group.display(row)
        if not runs:
            rows.append([name, f"(0/{score.expected})", *[DASH] * 6])
            continue
        missing = f" {part(score.n, score.expected)}".rstrip()
        above = None if row == LOWER else in_points(across(group, (row, ratio), (LOWER, 20)).mean(axis=1))
        shares = np.concatenate([predicted_shares(run) for run in runs])
        first, last = (np.mean([supervised_loss(run, place) for run in runs]) for place in (0, -1))
        cost = runs[0].record["cost"]
        rows.append([
            name,
            f"{mean(score)}{missing}",
            signed(above),
            other_output(runs),
            f"{first:.2f} → {last:.2f}",
            f"{100 * shares.min():.0f} to {100 * shares.max():.0f}",
            f"{cost['parameters_trained'] / 1e6:.2f}",
            f"{cost['flops_per_step'] / 1e9:.1f}",
        ])
    header = ["method", "Dice, strict", f"above {LOWER} [95 %]", "other output", "supervised loss", "foreground, %",
              "M trained", "GFLOPs a step"]
    return markdown(Table(title, "CAPTION", header, rows)).replace("###", "##").replace("CAPTION", caption)


def predicted_shares(run: Run) -> np.ndarray:
    """Share of each test image's pixels that the official output calls foreground."""
    counts = run.counts["test_native"][:, 0]
    return (counts[:, 0] + counts[:, 1]) / run.counts["test_pixels"]


def other_output(runs: list[Run]) -> str:
    """The second of the outputs that a method predicts, and its mean Dice."""
    names = [str(name) for name in runs[0].counts["outputs"]]
    if len(names) < 2:
        return DASH
    return f"{names[1]} {100 * np.mean([np.nanmean(dice(run.counts['test_native'][:, 1])) for run in runs]):.1f}"


def supervised_loss(run: Run, place: int) -> float:
    """The sum of the supervised terms (with the regulariser that weighs them, if any), a mean over one stretch."""
    entry = run.record["history"][place]
    names = [name for name in entry if name.startswith("labelled/")]
    names = names or [name for name in entry if name.startswith("supervised")]
    assert names, run.record["run_id"]
    return sum(entry[name] for name in names)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
