"""`predict`: masks of one's own images by a finished run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK, RUN_FAILED
from benchmark.paths import results_folder


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("predict", help="masks of your own images by a finished run", allow_abbrev=False)
    shared.add_run(parser)
    parser.add_argument("images", nargs="+", type=Path, metavar="FOLDER", help="a folder of images, or images")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="where masks, overlays and areas.csv go (default: RESULTS/predictions/RUN)")
    parser.add_argument("--tile", metavar="auto|whole|SIZE",
                        help="cut into windows of so many pixels; auto: as large as the training images, or their "
                             "tiles (default: whole; of a run that was trained on tiles: auto)")
    parser.add_argument("--overlap", type=int, metavar="N",
                        help="pixels that windows share (default: a quarter of a window's shorter side)")
    parser.add_argument("--overlay", action=argparse.BooleanOptionalAction, default=True,
                        help="also draw each image with outlines and a legend (default: yes)")
    parser.add_argument("--again", action="store_true", help="overwrite what was predicted before")
    shared.add_device(parser)
    shared.add_folders(parser)
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Predict, print each image's areas; exit code 1 where an image could not be read."""
    from benchmark.models import predict as prediction

    images = prediction.images_of(arguments.images)
    finished = shared.finished(arguments)
    names = finished.model.classes
    folder = arguments.output or results_folder(arguments.results) / "predictions" / finished.model.run_id
    cut = prediction.tiling(finished, arguments.tile, arguments.overlap)
    planned = prediction.outputs(images, folder, arguments.overlay, arguments.again)
    if cut and arguments.tile is None:
        print(f"trained on tiles of {cut.side[1]} x {cut.side[0]} pixels: images are seen in such windows, which share "
              f"{cut.overlap} (--tile whole: as they are)", file=sys.stderr)
    width = max(len(path.name) for path in images)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for row in prediction.predict(finished, planned, cut):
        (failed if "error" in row else done).append(row)
        name = Path(row["image"]).name
        if said := row.get("error") or row["remark"]:
            print(said if "error" in row else f"{name}: {said}", file=sys.stderr, flush=True)
        if "error" not in row and not arguments.json:
            areas = "  ".join(f"{kind} {row['areas'][kind]:6.1%}" for kind in names[1:])
            print(f"{name:<{width}}  {areas}", flush=True)
    if done:
        prediction.write_table(folder, done, names)
    if arguments.json:
        windows = cut and {"height": cut.side[0], "width": cut.side[1], "overlap": cut.overlap}
        shared.print_json({"run_id": finished.model.run_id, "classes": names, "output": str(folder),
                           "windows": windows, "images": done, "failed": failed})
    print(f"{len(done)} of {len(images)} images predicted, in {folder}", file=sys.stderr)
    return RUN_FAILED if failed else OK
