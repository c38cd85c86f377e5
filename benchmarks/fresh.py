"""Calls a function of this package in a fresh process, so that one measurement leaves nothing to the next."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).parents[1]
#: A front end's name for its notebook; and what would make Python compile every module anew, which users do not do.
_LEFT_OUT = ("JPY_SESSION_NAME", "PYTHONDONTWRITEBYTECODE")


class FreshCallError(Exception):
    """The call failed in its process; the message is that of the exception there."""


def call(function: Callable[..., Any], *arguments: Any, timeout_s: float = 300) -> Any:
    """Call a module's function in a process of its own, in an empty folder and with IPython's settings left out.

    Args:
        function: A function at the top of a module of this package.
        arguments: What it is given; as JSON.
        timeout_s: The process is killed after this time.

    Returns:
        What the function returned, as JSON.

    Raises:
        FreshCallError: The function raised, or the process died.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
        paths = os.pathsep.join(filter(None, (str(_CHECKOUT), environment.get("PYTHONPATH"))))
        environment |= {"PYTHONPATH": paths, "IPYTHONDIR": folder, "JUPYTER_RUNTIME_DIR": folder}
        command = [sys.executable, "-m", "benchmarks.fresh", function.__module__, function.__name__]
        done = subprocess.run(
            [*command, json.dumps(arguments)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    if done.returncode != 0:
        message = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        raise FreshCallError(message[-1])
    return json.loads(done.stdout)


def _answer(module: str, name: str, arguments: str) -> None:
    # Only the answer goes to the pipe: the tools that are compared print for every cell.
    pipe = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        answer = json.dumps(getattr(importlib.import_module(module), name)(*json.loads(arguments)))
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    with open(pipe, "w", encoding="utf-8") as file:
        file.write(answer)
    # Without the clean-up at exit: some tools leave threads behind that never end.
    os._exit(0)


if __name__ == "__main__":
    _answer(*sys.argv[1:])
