"""Arguments that name an experiment, or a part of it."""

from __future__ import annotations

import argparse

from benchmark.errors import UserError


def add_part(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """What names an experiment, or a part of it."""
    parser.add_argument("experiment", nargs="?" if optional else None,
                        help="a name from `list experiments`, or path/to/file.yaml")
    parser.add_argument("--only", action="append", default=[], metavar="KEY=VALUE",
                        help="cells with this row, method, dataset, ratio or draw")
    parser.add_argument("--shard", default="1/1", metavar="I/N",
                        help="the I-th of N parts, where machines share no folder; see `records merge`")


def part_of(arguments: argparse.Namespace) -> list[str]:
    """What names the same part of the same experiment to another verb, on the same device and in the same folder."""
    parts = [arguments.experiment]
    for pair in arguments.only:
        parts += ["--only", pair]
    parts += ["--shard", arguments.shard] if arguments.shard != "1/1" else []
    parts += ["--device", arguments.device] if arguments.device != "auto" else []
    return parts + (["--results", arguments.results] if arguments.results else [])


def parse_only(pairs: list[str]) -> dict[str, str]:
    """`--only` arguments as a mapping."""
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--only {pair}: expected KEY=VALUE, as in --only method=NAME")
    chosen = dict(pair.split("=", 1) for pair in pairs)
    if len(chosen) < len(pairs):
        raise UserError(f"--only {pairs[-1]}: a key may be given once")
    return chosen


def parse_shard(text: str) -> tuple[int, int]:
    """`2/4` as (2, 4)."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UserError(f"--shard {text}: expected I/N with I from 1 to N, as in --shard 2/4")
    return int(part), int(parts)
