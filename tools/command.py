"""What the command lines of the tools share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from benchmark.errors import USAGE, NotApplicable, UserError


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `least` on."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, not '{text}'")
        return int(text)

    return number


def run(main: Callable[[], int | None]) -> NoReturn:
    """Exit with the code of a tool's `main`; a user's mistake is one line on stderr."""
    try:
        sys.exit(main())
    except (UserError, NotApplicable) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "code", USAGE))
