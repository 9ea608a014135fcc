"""`predict`, `evaluate`, `export`: use a trained model."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK, RUN_FAILED, UserError, listed
from benchmark.paths import results_folder

if TYPE_CHECKING:
    from benchmark.models.evaluate import Wanted
    from benchmark.spec import Spec

logger = logging.getLogger(__name__)
ROWS = (
    ("Dice", "dice", 100), ("Jaccard", "jaccard", 100), ("precision", "precision", 100), ("recall", "recall", 100),
    ("object F1", "object_f1", 100), ("object Dice", "object_dice", 100),
    ("object Hausdorff, px", "object_hausdorff", 1), ("HD95, px", "hd95", 1), ("surface distance, px", "asd", 1),
)  # title, key of the strict scores, factor


def add(verbs: shared.Verbs) -> None:
    """Describe the verbs."""
    shares = ("run", "--results", "--json")
    about = "write masks of your own images, predicted by a finished run"
    parser = shared.add_verb(verbs, "predict", about, predict, *shares, "--device")
    parser.add_argument("images", nargs="+", type=Path, metavar="FOLDER", help="a folder of images, or images")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="where masks, overlays and areas.csv go (default: RESULTS/predictions/RUN)")
    parser.add_argument("--tile", metavar="auto|whole|SIZE",
                        help="cut images into windows of SIZE pixels; auto: as large as the training images or tiles "
                             "(default: whole; auto if the run was trained on tiles)")
    parser.add_argument("--overlap", type=int, metavar="N",
                        help="pixels that windows share (default: as the training tiles, else a quarter of a window)")
    parser.add_argument("--overlay", action=argparse.BooleanOptionalAction, default=True,
                        help="also draw each image with outlines and a legend (default: yes)")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier predictions")

    about = "score a finished run on other images of the same classes"
    parser = shared.add_verb(verbs, "evaluate", about, evaluate, *shares, "--data", "--device")
    parser.add_argument("--dataset", help=f"{shared.DATASET} (default: the run's own)")
    parser.add_argument("--split", help="list of test images (default: the run's on its own data set; else official, "
                                        "or the first there is)")
    parser.add_argument("--fold", type=int, help="fold of the split (default: the run's on its own data set, else 0)")
    parser.add_argument("--sets", choices=("test", "all"), default="test",
                        help="the split's test images, or all images that the run was not trained on (default: test)")
    parser.add_argument("--objects", action="store_true",
                        help="also object scores and surface distances (about 0.2 s an image)")
    parser.add_argument("--overwrite", action="store_true", help="evaluate anew; the old evaluation is renamed")

    about = "write a finished run's weights and program, with a card"
    parser = shared.add_verb(verbs, "export", about, export, *shares)
    parser.add_argument("--format", default="weights,program", metavar="weights,program",
                        help="what to write beside the card (default: weights,program)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: RESULTS/exports/RUN")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.set_defaults(device="cpu")


def predict(arguments: argparse.Namespace) -> int:
    """Predict, and print each image's areas; exit code 1 where an image could not be read."""
    from benchmark.models import predict as prediction

    images = prediction.images_of(arguments.images)
    finished = shared.finished(arguments)
    names = finished.model.classes
    folder = arguments.output or results_folder(arguments.results) / "predictions" / finished.model.run_id
    cut = prediction.tiling(finished.model, arguments.tile, arguments.overlap)
    prediction.check_output(images, folder, arguments.overwrite)
    if cut and arguments.tile is None:
        logger.info("the run was trained on tiles of %d x %d pixels, so images are cut into such windows with an "
                    "overlap of %d (--tile whole: not cut)", cut.side[1], cut.side[0], cut.overlap)
    width = max(len(path.name) for path in images)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for row in prediction.predict(finished, images, folder, arguments.overlay, cut):
        if "error" in row:
            failed.append(row)
            logger.error(row["error"])
            continue
        done.append(row)
        name = Path(row["image"]).name
        if row["remark"]:
            logger.warning("%s: %s", name, row["remark"])
        if not arguments.json:
            areas = "  ".join(f"{kind} {row['areas'][kind]:6.1%}" for kind in names[1:])
            print(f"{name:<{width}}  {areas}", flush=True)
    if done:
        prediction.write_table(folder, done, names)
    windows = cut and {"height": cut.side[0], "width": cut.side[1], "overlap": cut.overlap}
    shared.show(arguments, {"run_id": finished.model.run_id, "classes": names, "output": str(folder),
                            "windows": windows, "images": done, "failed": failed}, [])
    logger.info("%d of %d images predicted, in %s", len(done), len(images), folder)
    return RUN_FAILED if failed else OK


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate, and print the scores."""
    from benchmark.data.load import load_dataset
    from benchmark.data.splits import default_split
    from benchmark.models import evaluate as evaluation

    finished, results = shared.finished(arguments), results_folder(arguments.results)
    spec = finished.model.spec
    try:
        dataset = load_dataset(arguments.dataset or spec.source or spec.dataset)
    except UserError as error:
        if arguments.dataset:
            raise
        raise UserError(f"the run's own data set is not here ({error}); name its place with --dataset") from None
    own = dataset.name == spec.dataset
    split = arguments.split or (spec.split.partition("+")[0] if own else default_split(dataset))
    fold = (spec.fold if own and arguments.split is None else 0) if arguments.fold is None else arguments.fold
    wanted = evaluation.Wanted(dataset, split, fold, arguments.sets, arguments.objects)
    content, path, was_there = evaluation.evaluate(
        finished, wanted, results, raw=arguments.data, overwrite=arguments.overwrite, command=_command(spec, wanted)
    )
    for reason, names in content["left_out"].items():
        if names:
            why = "the run was trained on them" if reason == "trained_on" else "they have no mask"
            logger.info("%d images are left out, because %s: %s", len(names), why, listed(names, 3))
    logger.info("%s: %s", "already evaluated" if was_there else "written", path)
    lines = _table(content, finished.model.classes)
    if not own and finished.record is not None:
        strict = finished.record["scores"].get("strict") or {}
        if strict.get("dice") is not None:
            lines.append(f"on the test images of {spec.dataset}, where it was trained: "
                         f"Dice {100 * strict['dice']:.2f}, n {strict['n']}")
    shared.show(arguments, content, lines)
    return OK


def _command(spec: Spec, wanted: Wanted) -> str:
    """The command line that makes this evaluation."""
    words = ["python", "-m", "benchmark", "evaluate", spec.run_id, "--dataset", wanted.dataset.source]
    words += ["--sets", "all"] if wanted.sets == "all" else ["--split", wanted.split, "--fold", str(wanted.fold)]
    return shlex.join(words + ["--objects"] * wanted.objects)


def _table(content: dict[str, Any], names: Sequence[str]) -> list[str]:
    """The strict scores: of all images, of each value of each group, and of each class."""
    strict = content["scores"]["strict"]
    columns = [("", "all", strict)]
    columns += [(group, name, found) for group, values in content["groups"].items() for name, found in values.items()]
    columns += [("class", name, strict["classes"][name]) for name in names if name in strict.get("classes", {})]
    named = Counter(name for _, name, _ in columns)
    titles = [f"{kind} {name}" if named[name] > 1 else name for kind, name, _ in columns]
    where = "all images" if content["sets"] == "all" else f"split {content['split']}, fold {content['fold']}"
    wide = max(12, *(len(title) + 2 for title in titles))
    lines = [f"{content['run_id']} on {content['dataset']} ({where}), strict",
             f"{'':<22}" + "".join(f"{title:>{wide}}" for title in titles)]
    for title, key, factor in ROWS:
        values = [column.get(key) for *_, column in columns]
        if any(value is not None for value in values):
            cells = ("-" if value is None else f"{factor * value:.2f}" for value in values)
            lines.append(f"{title:<22}" + "".join(f"{cell:>{wide}}" for cell in cells))
    return [*lines, f"{'n':<22}" + "".join(f"{column.get('n', 0):>{wide}}" for *_, column in columns)]


def export(arguments: argparse.Namespace) -> int:
    """Write the folder, and name what is in it; exit code 1 where a part could not be made."""
    from benchmark.models import export as exporting

    formats = exporting.formats_of(arguments.format)
    finished = shared.finished(arguments)
    folder = arguments.output or results_folder(arguments.results) / "exports" / finished.model.run_id
    exporting.clear(folder, finished, arguments.overwrite)
    files, failed = exporting.export(finished, folder, formats)
    for line in failed:
        logger.error(line)
    made = {"run_id": finished.model.run_id, "output": str(folder), "files": files, "failed": failed}
    shared.show(arguments, made, (f"{folder / name}: {about}" for name, about in files.items()))
    return RUN_FAILED if failed else OK
