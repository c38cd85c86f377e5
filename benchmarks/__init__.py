"""What memcell costs and how exact it is, measured next to the bare kernel and to other tools.

``python -m benchmarks`` measures everything and prints a table for each question; every module named in ``QUESTIONS``
holds one. Nothing here is installed with memcell.
"""

from __future__ import annotations

#: The modules that hold a question, in the order in which they are asked. Each has ``TITLE`` and ``run(quick)``.
QUESTIONS = ("hooks", "load", "peak", "live", "registry", "watcher")
