"""Tables of README.md and two pages of docs/, from records: `python -m tools.document_tables` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.report import published, stats
from benchmark.report.compare import compare, difference_table, paired, protocol_gaps
from benchmark.report.diagnose import Curve, diagnose
from benchmark.report.gather import gather
from benchmark.report.ranks import rankings
from benchmark.report.render import DASH, Table, markdown, part
from benchmark.report.results_frame import Group
from benchmark.report.tuning import tuning_tables
from benchmark.runs import tuning
from benchmark.runs.experiment import read_experiment
from benchmark.runs.tuning import ValidationCounts

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "findings.md", ROOT / "docs" / "reproduction.md")
BLOCK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.S)
MAIN = "glas_light"
LOWER, UPPER, CONTROL, OURS = "supervised", "upper bound", "ensemble", "semimoe"
AUGMENTED = "supervised, strong views"


def page(text: str) -> str:
    """The page with every block between markers made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}{found[3]}", text)


@cache
def in_all_draws(experiment: str, dataset: str = "") -> Group:
    """An experiment's runs, as they were scored on one of its data sets (or on its only one)."""
    groups = gather(read_experiment(experiment), ROOT / "results", "cpu")
    (group,) = (each for each in groups if dataset in ("", each.dataset))
    return group


@cache
def group_of(experiment: str, dataset: str = "") -> Group:
    """The runs that are compared in the pages.

    Of the draws that the report ranks: some draws are easier. Upper bounds stand alone at their ratio, where nothing is
    ranked; they are of the draws ranked at the others.
    """
    group = in_all_draws(experiment, dataset)
    ranked = {ranking.ratio: {fold for fold, _ in ranking.draws} for ranking in rankings(group)}
    every = {fold for folds in ranked.values() for fold in folds}

    def belongs(at: Mapping[str, Any]) -> bool:
        return not every or at["fold"] in ranked.get(at["ratio"], every)

    return replace(group, runs=tuple(run for run in group.runs if belongs(run.place)))


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table without title and caption: the page's own sentences say what it is."""
    return markdown(Table("", "", header, rows)).split("\n", 4)[4]


def score(group: Group, label: str, ratio: int) -> str:
    """Strict Dice in percent: mean ± sd over draws (of one draw no sd) and the interval over patients."""
    if (label, ratio) not in group.cells.index or not group.finished(label, ratio):
        return DASH
    found = group.cell_scores().loc[label, ratio]
    return f"{mean(found)} [{found.low:.1f}, {found.high:.1f}] {part(found.n, found.expected)}".strip()


def mean(cell: pd.Series) -> str:
    """`84.1 ± 0.7`; of one draw without the sd."""
    return f"{cell['mean']:.1f}" + (f" ± {cell.sd:.1f}" if cell.n > 1 else "")


def in_points(images: pd.Series) -> stats.Interval | None:
    """The mean of differences by image, in points, with its interval over patients."""
    bounds = stats.interval(images)
    return bounds and stats.Interval(100 * bounds.estimate, 100 * bounds.low, 100 * bounds.high, bounds.units)


def difference(group: Group, first: str, second: str, ratio: int) -> stats.Interval | None:
    """first - second in points of strict Dice, paired by image, with its interval over patients."""
    return in_points(compare(group, first, second, ratio).mean(axis=1))


def across(group: Group, first: tuple[str, int], second: tuple[str, int]) -> pd.DataFrame:
    """The difference of two cells (row, ratio), images x draws: as `compare`, which cannot see another ratio's draws,
    since draws differ in seed where all images are labelled."""
    return paired(*(group.by_image(*cell).droplevel("seed", axis=1) for cell in (first, second)))


def in_each_draw(differences: pd.DataFrame) -> str:
    """`+1.2, -0.3`: the mean of each draw, in points."""
    return ", ".join(f"{100 * value:+.1f}" for value in differences.mean()) or DASH


def signed(bounds: stats.Interval | None) -> str:
    """`+1.2 [+0.1, +2.3]`."""
    return DASH if bounds is None else f"{bounds.estimate:+.1f} [{bounds.low:+.1f}, {bounds.high:+.1f}]"


def above(group: Group, label: str, other: str, ratio: int) -> str:
    """The difference of two rows, and a dash for a row and itself."""
    return DASH if label == other else signed(difference(group, label, other, ratio))


def beside(group: Group, label: str, others: Sequence[str], ratio: int) -> list[str]:
    """A row's score, and how far it is above each of the others: cells under `headings`."""
    return [score(group, label, ratio), *(above(group, label, other, ratio) for other in others)]


def headings(others: Sequence[str], ratios: Sequence[int]) -> list[str]:
    """The headings of what `beside` gives for each ratio."""
    return [name for ratio in ratios for name in (f"{ratio} %", *(f"above {other}" for other in others))]


def on_validation_images(group: Group, label: str, ratio: int) -> str:
    """Dice of a row on the validation images as `strict` defines it, in percent."""
    counts = [ValidationCounts(run.counts["validation_native"][:, 0]) for run in group.finished(label, ratio)]
    return f"{100 * tuning.score(counts):.1f}"


def established(group: Group) -> set[tuple[str, ...]]:
    """Name and labels of the rows that differ from the reference beyond chance, after Holm's adjustment over all."""
    found = difference_table(group)
    return {(name, labels) for name, labels, *_, p in (found.rows if found else ()) if p.lstrip("<") < "0.05"}


def published_dice(name: str) -> dict[tuple[str, int], float]:
    """Dice of a table of the paper on GlaS, by (row, ratio)."""
    cells = published.read(name).cells.itertuples()
    return {(c.row, c.ratio): c.mean for c in cells if c.dataset == "glas" and c.quantity == "dice"}


def gain(group: Group, label: str, sure: Collection[tuple[str, ...]]) -> tuple[str, str]:
    """How far a row with 20 % of the labels, or the upper bound, is above supervised training: with its interval, and a
    star where it is among the `sure` ones; then in each draw. Dashes of that row itself, and where nothing is."""
    ratio = 100 if label == UPPER else 20
    if label not in group.rows or label == LOWER or not group.finished(label, ratio):
        return DASH, DASH
    found = across(group, (label, ratio), (LOWER, 20))
    star = " *" * ((group.display(label), f"{ratio} %") in sure)
    return signed(in_points(found.mean(axis=1))) + star, in_each_draw(found)


def scores() -> str:
    """What each method gains with 20 % of the labels, best first, and in each draw; on new patients; with 10 %."""
    group, apart = group_of(MAIN), in_all_draws("glas_light_patients")
    sure, sure_apart = established(in_all_draws(MAIN)), established(apart)
    ranking = next(each for each in rankings(group) if each.ratio == 20)
    rows = [
        [group.display(label), score(group, label, ratio), *gain(group, label, sure), gain(apart, label, sure_apart)[0],
         above(group, label, LOWER, 10)]
        for label, ratio in [(UPPER, 100), *((row, 20) for row in ranking.rows)]
    ]  # fmt: skip
    header = [group.ratio_header(20), f"above {LOWER}", "in each draw", f"new patients, above {LOWER}",
              f"10 %, above {LOWER}"]  # fmt: skip
    return table(["method", *header], rows)


def draws() -> str:
    """What each method gains over supervised training with 10 % of the labels, of those with two draws or more."""
    group, rows = in_all_draws(MAIN), []
    for label in group.rows:
        found = 100 * compare(group, label, LOWER, 10)
        if label == LOWER or len(found.columns) < 2:
            continue
        gained = {fold: f"{value:+.1f}" for (fold, _), value in found.mean().items()}
        means = (above(group, label, other, 10) for other in (LOWER, CONTROL))
        rows.append([group.display(label), *(gained.get(fold, DASH) for fold in range(3)), *means])
    return table(["method", "first draw", "second", "third", "mean", f"mean above {CONTROL}"], rows)


def protocols() -> str:
    """Table 1 as printed, and our runs under the protocol of the published code, under selection, and under strict."""
    group, printed, rows = group_of(MAIN), published_dice("table1"), []
    gaps = {(gap.row, gap.ratio): gap for gap in protocol_gaps(group)}
    for label in group.rows:
        for ratio in (20, 10):
            found = gaps.get((label, ratio))
            if found is None:
                continue
            paper = printed.get((label, ratio))
            rows.append([
                group.display(label), f"{ratio} %", DASH if paper is None else f"{paper:.1f}", f"{found.stops[0]:.1f}",
                f"{found.validation:.1f}", f"{found.stops[-1]:.1f}", f"{found.stops[0] - found.stops[-1]:+.1f}",
            ])  # fmt: skip
    return table(["method", "labels", "published", "paper", "validation", "strict", "paper - strict"], rows)


def ours_above_others() -> str:
    """The paper's claim: how far Semi-MoE is above every other method of Table 1, published and here."""
    group, printed, rows = group_of(MAIN), published_dice("table1"), []
    for label in group.rows:
        if label == OURS or (label, 20) not in printed:
            continue
        row = [group.display(label)]
        for ratio in (20, 10):
            said, bounds = printed[OURS, ratio] - printed[label, ratio], difference(group, OURS, label, ratio)
            inside = "–" if bounds is None else "yes" if bounds.low <= said <= bounds.high else "no"
            row += [f"{said:+.1f}", signed(bounds), inside]
        rows.append(row)
    header = ["above", "published, 20 %", "here, 20 %", "within", "published, 10 %", "here, 10 %", "within"]
    return table(header, rows)


def labels() -> str:
    """Supervised training with 9, 17 and 85 labels."""
    group, cells = in_all_draws(MAIN), [(LOWER, 10), (LOWER, 20), (UPPER, 100)]
    rows = []
    steps = [None, *(in_points(across(group, after, before).mean(axis=1)) for before, after in pairwise(cells))]
    for (label, ratio), step in zip(cells, steps, strict=True):
        counts = {run.record["data"]["labelled"] for run in group.finished(label, ratio)}
        rows.append([", ".join(map(str, sorted(counts))), score(group, label, ratio), signed(step)])
    return table(["labelled images", "Dice, strict", "above the row before"], rows)


def splits() -> str:
    """The same methods on the official split and on the one that keeps patients apart."""
    official, apart, rows = group_of(MAIN), in_all_draws("glas_light_patients"), []
    sure = established(apart)
    for label in apart.rows:
        ratio = 100 if label == UPPER else 20
        rows.append([
            apart.display(label), score(official, label, ratio), score(apart, label, ratio),
            gain(official, label, ())[0], *gain(apart, label, sure),
            DASH if label == UPPER else above(apart, label, CONTROL, ratio),
        ])
    header = ["official", "patients", f"above {LOWER}, official", f"above {LOWER}, patients", "in each fold",
              f"above {CONTROL}, patients"]  # fmt: skip
    return table(["method", *header], rows)


def gains() -> str:
    """How far the methods of the table with the fewest labels are above supervised training, by number of labels."""
    fewest, rows = group_of("glas_light_5"), []
    columns = {5: fewest, 10: group_of(MAIN), 20: group_of(MAIN)}
    for label in fewest.rows:
        if label not in (LOWER, UPPER):
            few, *more = (above(group, label, LOWER, ratio) for ratio, group in columns.items())
            each = in_each_draw(compare(fewest, label, LOWER, 5))
            rows.append([fewest.display(label), few, each, *more, above(fewest, label, AUGMENTED, 5)])
    header = [f"above {LOWER}", "5 %", "5 %, in each draw", "10 %", "20 %", f"above {AUGMENTED}, 5 %"]
    return table(header, rows)


def pseudo_labels() -> str:
    """What three methods learn from with the fewest labels, on the validation images of the first draw."""
    group, between, rows = group_of("glas_light_5"), (100, 400), []

    def at_both(curve: Curve) -> str:
        steps, values = curve
        return " → ".join(f"{values[list(steps).index(step)]:.1f}" for step in between)

    plain = group.finished(LOWER, 5)[0]
    for label in ("unimatch", "cps", "xnet"):
        gain, _loss, _teacher, _share, precision = diagnose(group.finished(label, 5)[0], plain)
        right, (own, supervised) = precision.curves, gain.curves.values()
        source = "pixels that are sure enough" if "all pixels" in right else "every pixel"
        rows.append([group.display(label), source, at_both(next(iter(right.values()))), at_both(own)])
    rows.append([group.display(LOWER), DASH, DASH, at_both(supervised)])
    return table(["method", "learns from", "of these right, %", "Dice, %"], rows)


def start() -> str:
    """The same methods from an encoder pretrained on ImageNet and from random weights, and what each gains there."""
    group, rows = group_of("start_light"), []
    for label in group.rows:
        random = f"{label}, random start"
        if random in group.rows:
            pairs = [(label, random), (label, LOWER), (random, f"{LOWER}, random start")]
            known = score(group, label, 10), score(group, random, 10)
            rows.append([group.display(label), *known, *(above(group, *pair, 10) for pair in pairs)])
    header = ["pretrained", "random", "pretrained - random", f"above {LOWER}, pretrained", f"above {LOWER}, random"]
    return table(["method", *header], rows)


def control() -> str:
    """Every method against three supervised networks, averaged."""
    group, rows = group_of(MAIN), []
    for label in group.rows:
        gained = [above(group, label, CONTROL, ratio) for ratio in (20, 10)]
        if label not in (CONTROL, UPPER) and {*gained} != {DASH}:
            rows.append([group.display(label), *gained])
    return table([f"above {CONTROL}", "20 %", "10 %"], rows)


def variants() -> str:
    """The three Semi-MoEs and what is left without the unlabelled images."""
    group = group_of("semimoe_light")
    others, rows = (str(group.reference), CONTROL), []
    for label in group.rows:
        trained = {run.record["cost"]["parameters_trained"] for run in group.finished(label, 20)}
        rows.append([group.display(label), *(f"{number / 1e6:.1f}" for number in trained)])
        for ratio in (20, 10):
            rows[-1] += beside(group, label, others, ratio)
    return table(["variant", "M trained", *headings(others, (20, 10))], rows)


def experts() -> str:
    """Table 2 as printed, and our runs."""
    group, printed, rows = group_of("ablation_experts_light"), published_dice("table2"), []
    chosen = group.cell_scores("paper")["mean"]
    for label in group.rows:
        rows.append([group.display(label)])
        for ratio in (20, 10):
            seen = f"{chosen[label, ratio]:.1f}" if group.finished(label, ratio) else DASH
            rows[-1] += [f"{printed[label, ratio]:.1f}", seen, score(group, label, ratio)]
    header = [f"{name}, {ratio} %" for ratio in (20, 10) for name in ("published", "paper", "strict")]
    return table(["experts", *header], rows)


def components() -> str:
    """The rows of Table 4: one or many gates, and the two losses."""
    group, rows = group_of("ablation_components_light"), []
    others = str(group.reference), LOWER
    varied = [label for label in group.rows if label not in others]
    ratios = [ratio for ratio in (20, 10) if any(group.finished(label, ratio) for label in varied)]
    for label in group.rows:
        rows.append([label, *(cell for ratio in ratios for cell in beside(group, label, others, ratio))])
    return table(["gates and loss", *headings(others, ratios)], rows)


def weak() -> str:
    """Every method with three shares of the glands annotated, and how far it is above supervised training."""
    group, rows, shares = group_of("weak_light"), [], ("10 %", "25 %", "50 %")
    for method in dict.fromkeys(label.partition(",")[0] for label in group.rows if not label.startswith("without")):
        if method != UPPER:
            rows.append([method])
            for share in shares:
                label = f"{method}, {share}"
                rows[-1] += [score(group, label, 100), above(group, label, f"{LOWER}, {share}", 100)]
    return table(["method", *(name for share in shares for name in (f"{share} of the glands", f"above {LOWER}"))], rows)


def weak_parts() -> str:
    """The weak teacher-student without each of its parts."""
    group, whole = group_of("weak_light"), "weak_teacher_student, 25 %"
    rows = [
        [label, score(group, label, 100), above(group, label, whole, 100)]
        for label in group.rows
        if label == whole or label.startswith("without")
    ]
    return table(["row", "Dice, strict", f"above {whole}"], rows)


def teacher_statistics() -> str:
    """Mean Teacher with both kinds of BatchNorm statistics, on two data sets: validation images, then test images."""
    groups, rows = [group_of("ablation_teacher_light"), group_of("ebhi_light")], []
    for label in groups[0].rows:
        rows.append([groups[0].display(label)])
        for group in groups:
            seen = on_validation_images(group, label, 10) if group.finished(label, 10) else ""
            rows[-1] += [seen, *beside(group, label, (LOWER,), 10)] if seen else [DASH] * 3
    columns = ("validation", "Dice, strict", f"above {LOWER}")
    header = [f"{name}, {data}" for data in ("GlaS", "EBHI-Seg") for name in columns]
    return table(["10 % of the labels", *header], rows)


def short_training() -> str:
    """What each method gains where its averages fit a short training, or a setting is its published code's."""
    group, rows = group_of("ablation_short_training_light"), []
    for label in group.rows:
        default, comma, change = label.partition(", ")
        if comma and group.finished(label, 20):
            seen = " → ".join(on_validation_images(group, each, 20) for each in (default, label))
            rows.append([group.display(default), change, seen, *beside(group, label, (default, LOWER), 20)])
    columns = ("validation, before → after", "Dice, strict, after", "above before", f"above {LOWER}")
    return table(["method", "change", *columns], rows)


def tuned() -> str:
    """Default and tuned settings side by side, of the rows whose trials have all ended."""
    experiment = read_experiment("tune_light")
    group, *_ = gather(experiment, ROOT / "results", "cpu", trials=experiment.trials)
    gains, trials = tuning_tables(group)[:2]
    settings, after = {row[0]: row[4] for row in trials.rows}, group.tuning and group.tuning.group
    rows = [
        [row[0], row[2], row[3], f"{row[4]} {row[5]}", above(after, label, LOWER, 20), settings[row[0]]]
        for label, row in zip(group.rows, gains.rows, strict=True) if after and row[3] != DASH
    ]  # fmt: skip
    header = ["method", "default", "tuned", "difference", f"tuned, above tuned {LOWER}", "chosen"]
    return table(header, rows)


def second_dataset() -> str:
    """What is measured on EBHI-Seg, best first, and how far each method is above both bounds."""
    group = group_of("ebhi_light")
    known = group.cell_scores()["mean"].unstack().reindex(columns=group.ratios)
    others, rows = (LOWER, CONTROL), []
    ratios = [ratio for ratio in group.ratios if ratio != 100 and known[ratio].notna().any()]
    for label in known.sort_values([100, *ratios], ascending=False).dropna(how="all").index:
        rows.append([group.display(label)])
        for ratio in ratios:
            rows[-1] += beside(group, label, others, 100 if label == UPPER else ratio)
    return table(["method", *headings(others, ratios)], rows)


def domains() -> str:
    """The same labels with unlabelled images of one data set, the other, or both; scored on both."""
    groups, rows = [group_of("cross_domain_light", name) for name in ("glas", "ebhi_gland")], []
    for label in groups[0].rows:
        if groups[0].finished(label, 10):
            rows.append([groups[0].display(label)])
            for group in groups:
                rows[-1] += [*beside(group, label, (LOWER,), 10), above(group, label, LOWER, 5)]
    more = (f"above {LOWER}", f"5 %, above {LOWER}")
    return table(["method, unlabelled images", "on GlaS, 10 %", *more, "on EBHI-Seg, 10 %", *more], rows)


def prototypes() -> str:
    """MPAMatch-style without and with each of its prototypes, against its base on the same network."""
    group, rows = group_of("mpamatch_light"), []
    ratios = [ratio for ratio in group.ratios if any(group.finished(label, ratio) for label in group.rows)]
    for label in group.rows:
        if any(group.finished(label, ratio) for ratio in ratios):
            base = "transunet, unimatch" if label.startswith("transunet") else str(group.reference)
            cells = (cell for ratio in ratios for cell in beside(group, label, [base], ratio))
            rows.append([group.display(label), *cells])
    return table(["row", *headings(["unimatch"], ratios)], rows)


MADE = (
    scores, draws, protocols, ours_above_others, labels, gains, pseudo_labels, start, splits, control, variants,
    experts, components, weak, weak_parts, teacher_statistics, short_training, tuned, second_dataset, domains,
    prototypes,
)  # fmt: skip
BLOCKS: dict[str, Callable[[], str]] = {made.__name__: made for made in MADE}


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(page(each.read_text(encoding="utf-8")), encoding="utf-8")
        print(each)
