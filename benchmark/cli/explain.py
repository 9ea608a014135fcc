"""`explain`: every setting of a run, and the layer that set it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK

if TYPE_CHECKING:
    from benchmark.config.compose import Setting


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
    if settings["data.normalise"].value == "auto":
        settings["data.normalise"] = _normalise(configuration.values(), settings["data.normalise"])
    if arguments.json:
        shared.print_json({key: vars(settings[key]) for key in sorted(settings)})
        return OK
    width = max(map(len, settings))
    for key in sorted(settings):
        setting = settings[key]
        value = ",".join(map(str, setting.value)) if isinstance(setting.value, tuple) else str(setting.value)
        print(f"{key:<{width}}  {value:<14}  {setting.layer} ({setting.source})")
    return OK


def _normalise(values: Mapping[str, Any], setting: Setting) -> Setting:
    """What `auto` means beside these weights, in numbers where they bring them."""
    from benchmark.nets.weights import STATISTICS, normalisation

    choice = normalisation(values)
    mean, std = STATISTICS.get(choice, ((), ()))
    numbers = f", mean {' '.join(map(str, mean))}, std {' '.join(map(str, std))}" if mean else ""
    layer = f"auto: as net.weights={values['net.weights']} were trained{numbers}" if mean else "auto: net.weights unset"
    return replace(setting, value=choice, layer=layer)
