"""The tools that are compared, each with the same few handles: memcell and its peers.

Every handle is used in a fresh process with a shell. Cells print there; nobody reads it.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

#: IPython's shell, whose methods have no types.
Shell = Any

MIB = 1 << 20
#: A tool that samples in a thread of its own finishes that thread in this time after a cell.
_SETTLE_S = 0.02


class Tool:
    """A tool that measures the memory of cells.

    Attributes:
        name: Its name, which is that of its distribution.
        extension: The module for ``%load_ext``.
    """

    name: str
    extension: str

    def start(self, shell: Shell) -> None:
        """Make it measure cells."""
        shell.run_line_magic("load_ext", self.extension)

    def run(self, shell: Shell, cell: str) -> None:
        """Run a cell as a user of the tool would, so that it is measured."""
        shell.run_cell(cell, store_history=True)

    def peak_growth(self, shell: Shell, cell: str) -> float:
        """Run a cell and return what the tool says about its peak, in bytes above the level before."""
        raise NotImplementedError

    def child_growth(self, shell: Shell, cell: str) -> float:
        """The same for the child processes; most tools do not tell them apart."""
        return self.peak_growth(shell, cell)


class Memcell(Tool):
    name = extension = "memcell"

    def peak_growth(self, shell: Shell, cell: str) -> float:
        return float(self._run_of(shell, cell).peak_growth_bytes)

    def child_growth(self, shell: Shell, cell: str) -> float:
        run = self._run_of(shell, cell)
        return float(run.children_peak_bytes - run.children_before_bytes)

    def _run_of(self, shell: Shell, cell: str) -> Any:
        self.run(shell, cell)
        return importlib.import_module("memcell").history()[-1]


class MemoryProfiler(Tool):
    name, extension = "memory-profiler", "memory_profiler"

    def run(self, shell: Shell, cell: str) -> None:
        super().run(shell, f"%%memit\n{cell}")

    def peak_growth(self, shell: Shell, cell: str, options: str = "-o") -> float:
        result = shell.run_cell_magic("memit", options, cell)
        return float(max(result.mem_usage) - result.baseline) * MIB

    def child_growth(self, shell: Shell, cell: str) -> float:
        return self.peak_growth(shell, cell, "-o -c")


class IPythonMemoryUsage(Tool):
    name, extension = "ipython-memory-usage", "ipython_memory_usage"

    def start(self, shell: Shell) -> None:
        super().start(shell)
        shell.run_line_magic("imu_start", "")

    def peak_growth(self, shell: Shell, cell: str) -> float:
        told = importlib.import_module("ipython_memory_usage.ipython_memory_usage")
        before = told.previous_call_memory_usage
        self.run(shell, cell)
        time.sleep(_SETTLE_S)
        return float(max(told.peak_memory_usage, told.previous_call_memory_usage) - before) * MIB


class IPyExperiments(Tool):
    name = extension = "ipyexperiments"

    def start(self, shell: Shell) -> None:  # noqa: ARG002 - it finds the shell by itself
        # The part that reports each cell; the rest of an experiment needs a notebook.
        self._experiment = importlib.import_module("ipyexperiments").IPyExperimentsCPU(exp_enable=False)

    def peak_growth(self, shell: Shell, cell: str) -> float:
        self.run(shell, cell)
        told = self._experiment.cl.data.cpu
        return float(max(0, told.used_delta) + told.peaked_delta)


class Memray(Tool):
    name = extension = "memray"

    def run(self, shell: Shell, cell: str) -> None:
        super().run(shell, f"%%memray_flamegraph\n{cell}")

    def peak_growth(self, shell: Shell, cell: str) -> float:
        # What its magic does, without the page that it draws.
        memray = importlib.import_module("memray")
        path = f"{time.monotonic_ns()}.bin"
        with memray.Tracker(path):
            super().run(shell, cell)
        with memray.FileReader(path) as reader:
            return float(reader.metadata.peak_memory)


class Tracemalloc(Tool):
    name = extension = "tracemalloc"

    def start(self, shell: Shell) -> None:  # noqa: ARG002 - it knows no shell
        self._library = importlib.import_module("tracemalloc")

    def run(self, shell: Shell, cell: str) -> None:
        self.peak_growth(shell, cell)

    def peak_growth(self, shell: Shell, cell: str) -> float:
        self._library.start()
        before, _ = self._library.get_traced_memory()
        super().run(shell, cell)
        _, peak = self._library.get_traced_memory()
        self._library.stop()
        return float(peak - before)


MEMCELL = Memcell()
PEERS: tuple[Tool, ...] = (MemoryProfiler(), IPythonMemoryUsage(), IPyExperiments(), Memray(), Tracemalloc())
TOOLS = {tool.name: tool for tool in (MEMCELL, *PEERS)}


def make_shell() -> Shell:
    """A shell without a history database: its thread would disturb the measurement."""
    config = Config()
    config.HistoryManager.enabled = False
    return InteractiveShell.instance(config=config)
