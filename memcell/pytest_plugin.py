"""The pytest plugin: ``pytest --memcell notebooks/`` checks notebooks, ``memcell_steady`` judges a function.

pytest loads this module at each start, so it imports nothing that a run without either would not need.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from memcell.records.explained import Verdict


class Steady(Protocol):
    """The fixture ``memcell_steady``."""

    def __call__(
        self, function: Callable[[], Any], runs: int = 10, *, limit_per_run: int | str | None = None
    ) -> Verdict: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options: those of ``memcell check`` that do not change what it prints."""
    group = parser.getgroup("memcell", "memcell: notebooks that leak")
    group.addoption("--memcell", action="store_true", help="collect notebooks, and fail those in which a cell leaks")
    group.addoption(
        "--memcell-reruns",
        type=_as_written("reruns"),
        metavar="N",
        help="how often each cell is run again (default: 6)",
    )
    group.addoption(
        "--memcell-limit",
        type=_as_written("size"),
        metavar="SIZE",
        help="what a notebook's kernel and its child processes may peak at: 2GB",
    )
    group.addoption(
        "--memcell-timeout",
        type=_as_written("seconds"),
        metavar="SECONDS",
        help="how long one run of a cell may take (default: 600; 0 for ever)",
    )


def _as_written(kind: str) -> Callable[[str], str]:
    """The type of an option that goes on to ``memcell check`` as it is, once it is known that it can be read."""

    def checked(text: str) -> str:
        from memcell import arguments

        getattr(arguments, kind)(text)
        return text

    return checked


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> NotebookFile | None:
    """A notebook is a file with one test, where ``--memcell`` is given."""
    if parent.config.getoption("memcell") and file_path.suffix == ".ipynb":
        return NotebookFile.from_parent(parent, path=file_path)
    return None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Jupyter keeps copies of notebooks in a folder of its own."""
    return True if config.getoption("memcell") and collection_path.name == ".ipynb_checkpoints" else None


class NotebookFile(pytest.File):
    """A notebook."""

    def collect(self) -> Iterator[pytest.Item]:
        """One test for the whole notebook: its cells need one another, in one kernel and in their order."""
        yield NotebookItem.from_parent(self, name="memcell")


class NotebookFailedError(Exception):
    """A notebook leaks or does not run; the message is what ``memcell check`` says."""


class NotebookItem(pytest.Item):
    """Runs ``memcell check`` for one notebook."""

    def runtest(self) -> None:
        """Check it, in a process of its own: neither its event loop nor its libraries reach other tests."""
        options = _check_options(self.config)
        command = [sys.executable, "-m", "memcell", "check", *options, os.path.relpath(self.path)]
        # The notebook is not a test of this pytest.
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            # The last line sums all up: pytest shows the first one in its own summary.
            lines = f"{done.stderr}{done.stdout}".rstrip().splitlines()
            lines = lines or [f"memcell check ended with status {done.returncode} and said nothing"]
            raise NotebookFailedError("\n".join([lines[-1], *lines[:-1]]))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The lines of the check, without a traceback."""
        if isinstance(excinfo.value, NotebookFailedError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """What the report is headed with."""
        return self.path, None, f"memcell: {self.path.name}"


def _check_options(config: pytest.Config) -> Iterator[str]:
    for name in ("reruns", "limit", "timeout"):
        value = config.getoption(f"memcell_{name}")
        if value is not None:
            yield from (f"--{name}", value)


@pytest.fixture
def memcell_steady() -> Steady:
    """Call a function several times and fail if it leaks: ``memcell_steady(lambda: load(path), runs=10)``.

    ``limit_per_run`` (``"2MB"``, or bytes) allows so much growth in each run. Returns the verdict.
    """

    def steady(function: Callable[[], Any], runs: int = 10, *, limit_per_run: int | str | None = None) -> Verdict:
        __tracebackhide__ = True
        from memcell.steady import judge_calls
        from memcell.units import parse_size
        from memcell.view.check_text import leak_words

        allowed = 0 if limit_per_run is None else parse_size(limit_per_run)
        verdict = judge_calls(function, runs)
        if verdict.kind == "growing" and verdict.bytes_per_run > allowed:
            pytest.fail("\n".join(leak_words(verdict)), pytrace=False)
        return verdict

    return steady
