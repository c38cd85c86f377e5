"""Argument types that the magics, the ``memcell`` command and pytest's options share: each error says what is wrong."""

from __future__ import annotations

import argparse
import keyword
from collections.abc import Callable

from memcell.errors import InvalidSizeError
from memcell.units import parse_size


def size(text: str) -> int:
    """A memory size, in bytes."""
    try:
        return parse_size(text)
    except InvalidSizeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def number_of(what: str, fewest: int = 1, most: int | None = None) -> Callable[[str], int]:
    """The type of a number of something, such as ``runs``, within bounds."""

    def number(text: str) -> int:
        found = int(text) if text.isascii() and text.isdigit() else None
        if found is None or found < fewest or (most is not None and found > most):
            until = "on" if most is None else f"to {most}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {what} from {fewest} {until}")
        return found

    return number


def reruns(text: str) -> int:
    """A number of re-runs that is enough for a verdict."""
    from memcell.records.checked import FEWEST_RERUNS  # here, because pytest loads this module in every project

    return number_of("re-runs", FEWEST_RERUNS)(text)


#: A duration; 0 is one without an end.
seconds = number_of("seconds", 0)


def pid(text: str) -> int:
    """The pid of a process."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a pid; without --kill those are listed that can be ended")
    return int(text)


def variable_name(text: str) -> str:
    """The name of a variable."""
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a variable name")
    return text


def variable_names(text: str) -> tuple[str, ...]:
    """Names of variables, with commas between them."""
    return tuple(variable_name(name) for name in text.split(",") if name)
