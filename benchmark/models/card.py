"""The card of an exported model: what it was trained on, how good it is by which measure, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark import __version__
from benchmark import plugins as outside
from benchmark.models.info import Model

MEANING = {
    "strict": "the last step's argmax, each test image by itself at its native size, then the mean over the {n} images"
              "{undefined}; nothing was chosen on test images",
    "validation": "step and threshold chosen on {validation} validation images, the pixels of all test images pooled, "
                  "at working size",
    "paper": "step, threshold and output chosen on the test images themselves, as published code does: more than new "
             "images will give",
}
UNDEFINED = " ({} with nothing there and nothing found are left out)"
CARD = """# {method} on {dataset}

Tells {classes} apart from {background} in histopathology images. Trained and measured with SemiHisto; for research,
not a medical device.

## Data

{dataset}, split `{spec.split}`, fold {spec.fold}: {labelled} labelled and {unlabelled} unlabelled training images
({spec.ratio} % labels), {test} test images. {cut} resized to {size} x {size} pixels; before that, the training
{pieces} are {width} x {height} (median).{reading}

Licence of the data: {licence}. What it asks of a model that was trained on them is for you to judge.

## Scores

| protocol | Dice, % | Jaccard, % | what it means |
|:--|--:|--:|:--|
{scores}

These are the scores of one run. Another draw of the labelled images, or another seed, gives others; the report of its
experiment has the spread.

## Files

{files}

## Use

With SemiHisto, on images of any size: `python -m benchmark predict THIS_FOLDER IMAGES`.{without}

## How it was made

    {command}

Run `{run_id}`: network {net}, {parameters:,} parameters behind the official output, {steps} steps on {device}; torch
{torch}, Python {python}, exported by SemiHisto {version}. Weights of the run (sha256): `{weights}`.
"""
WITHOUT = """

Without it, at working size:

```python
import numpy as np, torch
from PIL import Image

program = torch.export.load("{program}").module()
{note}image = Image.open("image.png").convert("RGB").resize(({size}, {size}), Image.Resampling.BILINEAR)
pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
classes = program(pixels).argmax(1)[0]  # {size} x {size}
```"""


def card(model: Model, record: Mapping[str, Any], files: Mapping[str, str], parameters: int) -> str:
    """The card's Markdown. `files`: name -> what is in it; `parameters`: how many are behind the official output."""
    program = next((name for name in files if name.endswith(".pt2")), None)
    made, data, spec = record["environment"], record["data"], model.spec
    return CARD.format(
        spec=spec, method=outside.short(spec.method), dataset=spec.dataset,
        classes=", ".join(model.classes[1:]), background=model.classes[0],
        labelled=data["labelled"], unlabelled=data["unlabelled"], test=data["test"],
        cut=_cut(model), pieces="tiles" if model.tile else "images", reading=_reading(model),
        size=model.size, height=model.native_size[0], width=model.native_size[1], licence=model.licence.rstrip("."),
        scores="\n".join(_rows(record)), files="\n".join(f"- `{name}`: {about}" for name, about in files.items()),
        without=WITHOUT.format(program=program, size=model.size, note=_note(model)) if program else "",
        command=record["command"], run_id=model.run_id, net=model.spec.values["net.name"], parameters=parameters,
        steps=record["cost"]["steps"], device=made["device"], torch=made["torch"], python=made["python"],
        version=__version__, weights=record["weights_sha256"],
    )


def _cut(model: Model) -> str:
    """What was resized."""
    if model.tile is None:
        return "Images were"
    return f"Images were cut into tiles of {model.tile[0]} pixels, which share at least {model.tile[1]}, and those"


def _reading(model: Model) -> str:
    """What was done to the files' numbers, where something was."""
    grey = " Colours were made grey (ITU-R BT.601)." if model.grey else ""
    limits = model.grey_range
    deep = f" Of images of 16 bits, {limits[0]} became black and {limits[1]} white, linearly." if limits else ""
    return grey + deep


def _note(model: Model) -> str:
    """What an image must be before the program sees it, as comments of the code."""
    lines = ["# a window of {1} x {0} pixels of a large image".format(*model.native_size)] if model.tile else []
    lines += ["# with grey values as above, which Pillow does not do"] if _reading(model) else []
    return "".join(f"{line}\n" for line in lines)


def _rows(record: Mapping[str, Any]) -> list[str]:
    """A row for each protocol that has a score and, of several classes, for each class under `strict`."""
    strict, rows = record["scores"]["strict"], []
    undefined = UNDEFINED.format(strict["undefined"]) if strict["undefined"] else ""
    for name, meaning in MEANING.items():
        text = meaning.format(n=strict["n"], undefined=undefined, validation=record["data"]["validation"])
        rows += _row(name, record["scores"].get(name) or {}, text)
        if name == "strict":
            for kind, score in strict.get("classes", {}).items():
                found = f"the same of {kind} alone, over the {score['n']} images that have it or where it was found"
                rows += _row(f"strict, {kind}", score, found)
    return rows


def _row(name: str, score: Mapping[str, Any], text: str) -> list[str]:
    if score.get("dice") is None:
        return []
    return [f"| {name} | {100 * score['dice']:.2f} | {100 * score['jaccard']:.2f} | {text} |"]
