"""Runs both services, sends them requests, and prints a table of their resident memory.

``python docs/service/measure.py`` takes a minute and, for the service that leaks, 3.4 GiB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

HERE = Path(__file__).parent
LOOKS = (0, 1, 10, 50, 500)  # after so many requests
LEAKING_LOOKS = LOOKS[:-1]  # the last would take 32 GiB

_STOP_WITHIN_S = 10
_ANSWER_WITHIN_S = 30


class Service:
    """One of the services in a process of its own, on a free port of the loopback device.

    Args:
        module: ``"app"`` or ``"leaking"``.
        environment: Variables to add to the environment.

    Attributes:
        log: What it has logged, once it has stopped.
    """

    def __init__(self, module: str, **environment: str) -> None:
        self.log = ""
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "--port", "0", f"{module}:app"]
        self.process = subprocess.Popen(
            [*command, "--no-access-log"], env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Service:
        for line in self.process.stderr:
            self.log += line
            if "running on" in line:
                self.url = next(word for word in line.split() if word.startswith("http://"))
                return self
        self.process.communicate()
        raise RuntimeError(f"the service did not start:\n{self.log}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()  # uvicorn finishes what it does, then ends the lifespan
        try:
            self.log += self.process.communicate(timeout=_STOP_WITHIN_S)[1]
        finally:
            self.process.kill()  # nothing happens if it has ended
            self.process.wait()

    def get(self, path: str) -> Any:
        """The answer to a request."""
        with urllib.request.urlopen(self.url + path, timeout=_ANSWER_WITHIN_S) as answer:  # noqa: S310 - our own URL
            return json.load(answer)

    def appraise(self, number: int) -> Any:
        """The answer to one of 720 different questions."""
        return self.get(f"/prices?rooms={1 + number // 120 % 6}&age={number % 120}")

    def rss_mib(self) -> float:
        """Resident memory of the process, as the system tells it."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20


def levels(module: str, looks: Collection[int], **environment: str) -> Iterator[float]:
    """Resident memory after each of these numbers of requests, in MiB."""
    with Service(module, **environment) as service:
        for number in range(max(looks) + 1):
            if number:
                service.appraise(number)
            if number in looks:
                yield service.rss_mib()


def main() -> None:
    """Print the table."""
    subprocess.run([sys.executable, HERE / "prices.py"], check=True, stdout=subprocess.DEVNULL)
    rows = {
        "`leaking.py`": levels("leaking", LEAKING_LOOKS),
        "`app.py`": levels("app", LOOKS),
        "`MEM_LIMIT=275MB`, `app.py`": levels("app", LOOKS, MEM_LIMIT="275MB"),
    }
    print("| MiB after … requests |", " | ".join(map(str, LOOKS)), "|")
    print("|---|" + "---:|" * len(LOOKS))
    for title, row in rows.items():
        print(f"| {title} |", " | ".join(f"{level:,.0f}" for level in row), "|", flush=True)


if __name__ == "__main__":
    main()
