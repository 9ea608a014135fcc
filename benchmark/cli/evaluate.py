"""`evaluate`: a finished run's scores on other images of its classes, or its own again with object scores."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK, UserError
from benchmark.paths import results_folder

ROWS = (
    ("Dice", "dice", 100), ("Jaccard", "jaccard", 100), ("object F1", "object_f1", 100),
    ("object Dice", "object_dice", 100), ("object Hausdorff, px", "object_hausdorff", 1), ("HD95, px", "hd95", 1),
    ("surface distance, px", "asd", 1),
)  # title, key of the strict scores, factor


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("evaluate", help="a finished run's scores on other images of its classes",
                              allow_abbrev=False)
    shared.add_run(parser)
    parser.add_argument("--dataset", help="see `list datasets` (default: the run's own)")
    parser.add_argument("--split", help="list of test images (default: official, or the first there is; of its own "
                                        "data set, the run's)")
    parser.add_argument("--fold", type=int, help="fold of the split (default: 0; of its own data set, the run's)")
    parser.add_argument("--sets", choices=("test", "all"), default="test",
                        help="the split's test images, or all that the run was not trained on (default: test)")
    parser.add_argument("--objects", action="store_true",
                        help="also object scores and surface distances (about 0.2 s an image)")
    parser.add_argument("--overwrite", action="store_true", help="evaluate anew; an old evaluation is set aside")
    shared.add_device(parser)
    shared.add_folders(parser)
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and print the scores."""
    from benchmark.data.load import load_dataset
    from benchmark.data.splits import default_split
    from benchmark.models.evaluate import Wanted, evaluate

    finished, results = shared.finished(arguments), results_folder(arguments.results)
    spec = finished.model.spec
    try:
        dataset = load_dataset(arguments.dataset) if arguments.dataset else load_dataset(spec.source or spec.dataset)
    except UserError as error:
        if arguments.dataset:
            raise
        raise UserError(f"the run's own data set is not here ({error}); --dataset names its place") from None
    own = dataset.name == spec.dataset
    split = arguments.split or (spec.split.partition("+")[0] if own else default_split(dataset))
    fold = (spec.fold if own and arguments.split is None else 0) if arguments.fold is None else arguments.fold
    wanted = Wanted(dataset, split, fold, arguments.sets, arguments.objects)
    content, path, was_there = evaluate(
        finished, wanted, results, raw=arguments.data, again=arguments.overwrite, command=command(spec, wanted),
    )
    for reason, names in content["left_out"].items():
        if names:
            why = "the run was trained on them" if reason == "trained_on" else "they have no mask"
            print(f"{len(names)} images are left out, {why}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}",
                  file=sys.stderr)
    print(f"{'already evaluated' if was_there else 'written'}: {path}", file=sys.stderr)
    if arguments.json:
        shared.print_json(content)
        return OK
    print("\n".join(table(content)))
    if not own and finished.record is not None:
        strict = finished.record["scores"].get("strict") or {}
        if strict.get("dice") is not None:
            print(f"on {spec.dataset}, where it was trained: Dice {100 * strict['dice']:.2f}, n {strict['n']}")
    return OK


def command(spec: Any, wanted: Any) -> str:
    """The command line that makes this evaluation."""
    words = ["python", "-m", "benchmark", "evaluate", spec.run_id, "--dataset", wanted.dataset.source]
    words += ["--sets", "all"] if wanted.sets == "all" else ["--split", wanted.split, "--fold", str(wanted.fold)]
    return shlex.join(words + ["--objects"] * wanted.objects)


def table(content: dict[str, Any]) -> list[str]:
    """The strict scores: of all images, and of those of each group where a group tells them apart."""
    columns = {"all": content["scores"]["strict"]}
    for values in content["groups"].values():
        columns |= values
    for name, found in content["scores"]["strict"].get("classes", {}).items():
        columns[name] = found
    where = "all images" if content["sets"] == "all" else f"split {content['split']}, fold {content['fold']}"
    lines = [f"{content['run_id']} on {content['dataset']} ({where}), strict",
             f"{'':<22}" + "".join(f"{name:>12}" for name in columns)]
    for title, key, factor in ROWS:
        values = [column.get(key) for column in columns.values()]
        if any(value is not None for value in values):
            cells = ("-" if value is None else f"{factor * value:.2f}" for value in values)
            lines.append(f"{title:<22}" + "".join(f"{cell:>12}" for cell in cells))
    lines.append(f"{'n':<22}" + "".join(f"{column.get('n', 0):>12}" for column in columns.values()))
    return lines
