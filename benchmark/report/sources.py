"""What the runs of a table have in common that no name says: settings, several data sets, sparse labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from benchmark.config.compose import settings_in
from benchmark.report.results_frame import CELL, Group, Run

LABELS = ["glands", "background", "erode"]  # settings of sparse labels
ANNOTATED = ["annotated_glands", "annotated_pixels"]


def safe_name(*parts: str) -> str:
    """A name that is safe in any file system."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", part) for part in parts)


def with_other_data(groups: Iterable[Group]) -> Iterator[Group]:
    """Every group, and after it one for each other data set on which some of its runs were scored, too."""
    for group in groups:
        yield group
        for name, facts in {name: each for run in group.done for name, each in _elsewhere(run).items()}.items():
            runs = tuple(_on(run, name) for run in group.runs if not run.done or name in _elsewhere(run))
            yield replace(
                group, dataset=name, split=facts["split"], fingerprint=facts["fingerprint"], published=None, runs=runs,
                name=safe_name(group.name, "on", name), title=f"{group.title}; scored on {name}",
            )


def _elsewhere(run: Run) -> Mapping[str, Any]:
    found: Mapping[str, Any] = run.record.get("elsewhere", {})
    return found


def _on(run: Run, dataset: str) -> Run:
    """A run as it was scored on another data set: counts and scores are those of its images."""
    there, prefix = _elsewhere(run).get(dataset, {}), f"{dataset}:"
    data = {**run.record["data"], "fingerprint": there.get("fingerprint", "")}
    counts = {key.removeprefix(prefix): run.counts[key] for key in run.counts if key.startswith(prefix)}
    return Run({**run.record, "scores": there.get("scores", {}), "data": data}, counts, run.row)


def learned_from(group: Group) -> str:
    """Sentences for all tables of a group: settings beside the preset, images of several data sets, sparse labels;
    empty where there are none of these."""
    return (_settings(group) + _images(group) + _annotated(group)).strip()


def _settings(group: Group) -> str:
    """What the commands of all runs set: the preset's name alone would hide it."""
    asked = [{*settings_in(run.record.get("command", ""))} for run in group.runs]
    common = set.intersection(*asked) if asked else ()
    return f" All runs change the preset {group.preset}: {', '.join(sorted(common))}." if common else ""


def _images(group: Group) -> str:
    found: dict[str, str] = {}
    for run in group.runs:
        every = [*run.record["data"].get("sources", ()), *_elsewhere(run).values()]
        found |= {each["dataset"]: _scale(each, run.spec["values"]["data.size"]) for each in every}
    if not found:
        return ""
    images = "; ".join(f"{name} ({about})" for name, about in found.items())
    return f" Images: {images}. All are resized whole, not to equal microns."


def _scale(facts: Mapping[str, Any], size: int) -> str:
    (height, width), microns = facts["native_size"], facts["microns_per_pixel"]
    scale = "microns per pixel not known"
    if microns:
        across, down = (microns * side / size for side in (width, height))
        scale = f"{microns:.3g} µm a pixel, {across:.2f} x {down:.2f} at {size} px"
    return f"{facts['domain'] or 'domain not stated'}; median {width} x {height} px, {scale}"


def annotated(group: Group) -> pd.DataFrame:
    """A line a run with sparse labels: their settings, and the shares of its labelled images that are ANNOTATED."""
    return pd.DataFrame([
        {**run.place, **{key: run.spec["values"][f"labels.{key}"] for key in LABELS},
         "annotated_glands": facts["glands"] / max(1, facts["of"]), "annotated_pixels": facts["pixels"]}
        for run in group.runs if (facts := run.record["data"].get("annotation"))
    ], columns=[*CELL, *LABELS, *ANNOTATED])  # fmt: skip


def _annotated(group: Group) -> str:
    told = [
        f"labels.glands={glands:g} with background {background}{f' and erode {erode:g}' if erode else ''}: "
        f"{100 * of_glands:.1f} % of the glands, {100 * of_pixels:.1f} % of the pixels"
        for (glands, background, erode), of_glands, of_pixels
        in annotated(group).groupby(LABELS)[ANNOTATED].mean().itertuples()
    ]  # fmt: skip
    return f" Labels are sparse; of the labelled images is annotated: {'; '.join(told)}." if told else ""
