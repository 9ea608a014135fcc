"""configs/annotations/<data set>.json: which glands sparse labels annotate: `python -m tools.annotation_lists glas`.

Of every training image of the default split the ids of its glands in the order in which they are annotated (0.25 is the
first quarter of them); and of the shares of `weak_light` the checksum that a record has under data.annotation.sha256.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmark.config.schema import Labels
from benchmark.data.annotation import annotate, drawn
from benchmark.data.load import load_dataset, load_prepared
from benchmark.data.splits import default_split, load_split
from benchmark.data.store import PreparedData
from benchmark.paths import CONFIGS
from tools.command import run

SHARES, DRAWS = (0.1, 0.25, 0.5), range(3)


def lists(prepared: PreparedData) -> dict[str, Any]:
    """The content of the file."""
    split, orders, sums = default_split(prepared.dataset), {}, {}
    for draw in DRAWS:
        ids = load_split(prepared.dataset, split, 100, draw).labelled
        orders[str(draw)] = {name: drawn(prepared, name, Labels(1.0, "unknown"), draw)[1] for name in ids}
        sums[str(draw)] = {str(share): found.facts["sha256"] for share in SHARES
                           if (found := annotate(prepared, ids, Labels(share), draw))}  # fmt: skip
    return {"dataset": prepared.name, "dataset_fingerprint": prepared.fingerprint, "split": split,
            "made_by": f"python -m tools.annotation_lists {prepared.name}", "sha256": sums, "glands": orders}


def text(content: dict[str, Any]) -> str:
    """JSON with a line an image."""
    told = json.dumps({key: value for key, value in content.items() if key != "glands"}, indent=1)[:-2]
    draws = []
    for draw, images in content["glands"].items():
        lines = ",\n".join(f'   "{name}": {order}' for name, order in images.items())
        draws.append(f'  "{draw}": {{\n{lines}\n  }}')
    return f'{told},\n "glands": {{\n' + ",\n".join(draws) + "\n }\n}\n"


def main() -> None:
    """Write the file of each data set that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", metavar="DATASET")
    for dataset in parser.parse_args().datasets:
        path = CONFIGS / "annotations" / f"{dataset}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text(lists(load_prepared(load_dataset(dataset), 160))), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    run(main)
