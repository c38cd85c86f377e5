"""Runs a script in a fresh process, with the real cleaners at hand, so that memory can be measured."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

PRELUDE = """
import json, sys
import psutil
from memcell.clean.catalogue import Catalogue
from memcell.clean.entry_points import EntryPointCleaners
from memcell.clean.heap import Collector, gc_cleaner, trim_cleaner
from memcell.clean.libraries import LIBRARIES
from memcell.clean.registry import Registry
from memcell.clean.runner import Gauges, Runner

def heap():
    info = psutil.heap_info()
    return info.heap_used + info.mmap_used

collector = Collector()
built_in = [*LIBRARIES, gc_cleaner(collector), trim_cleaner(psutil.heap_trim)]
catalogue = Catalogue(lambda: built_in, Registry(), EntryPointCleaners(list))
process = psutil.Process()
gauges = Gauges(lambda: process.memory_info().rss, heap, psutil.heap_trim, 65536)
runner = Runner(catalogue, gauges, collector)

def clean(*names):
    report = runner.clean(names)
    assert not any(outcome.error for outcome in report.outcomes), report
    return {outcome.name: outcome.freed_bytes for outcome in report.outcomes}
"""


def in_fresh_process(script: str) -> Any:
    """Run the script, which has ``clean(*names)`` at hand, and return what it printed last, read as JSON."""
    program = PRELUDE + textwrap.dedent(script)
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])
