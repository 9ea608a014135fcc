"""`explain`: every setting of a run, and the layer that set it."""

from __future__ import annotations

import argparse
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("explain", help="every setting of a run, the layer that set it, and its source",
                              allow_abbrev=False)
    shared.add_cell(parser)
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the settings."""
    from benchmark.config.compose import compose
    from benchmark.data.load import load_dataset
    from benchmark.registry import METHODS

    dataset = load_dataset(arguments.dataset)
    asked = shared.request(arguments)
    configuration = compose(
        asked.method, METHODS.load(asked.method), dataset.name, asked.preset, asked.overrides
    )
    settings = configuration.settings
    if arguments.json:
        shared.print_json({key: vars(settings[key]) for key in sorted(settings)})
        return OK
    width = max(map(len, settings))
    for key in sorted(settings):
        setting = settings[key]
        value = ",".join(map(str, setting.value)) if isinstance(setting.value, tuple) else str(setting.value)
        print(f"{key:<{width}}  {value:<14}  {setting.layer} ({setting.source})")
    return OK
