"""Real kernels for the tests: started with one interpreter, run cell by cell, and ended."""

from __future__ import annotations

import ast
import json
import os
import queue
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lazily import Lazily

jupyter_client = Lazily("jupyter_client")

_START_S = 60


@dataclass
class CellResult:
    """What a cell sent, and when (seconds since it was sent)."""

    status: str = "none"
    messages: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def contents(self, *types: str) -> list[dict[str, Any]]:
        return [message["content"] for _, message in self.messages if message["msg_type"] in types]

    @property
    def data(self) -> list[dict[str, Any]]:
        """The MIME bundles that the cell displays, in their order."""
        return [content["data"] for content in self.contents("display_data", "execute_result")]

    @property
    def lines(self) -> list[str]:
        """The plain text of the HTML-and-text outputs: memcell's lines and tables."""
        return [data["text/plain"] for data in self.data if "text/html" in data]

    @property
    def stdout(self) -> str:
        return "".join(content["text"] for content in self.contents("stream") if content["name"] == "stdout")

    @property
    def stderr(self) -> str:
        return "".join(content["text"] for content in self.contents("stream") if content["name"] == "stderr")

    @property
    def error(self) -> str:
        return "\n".join(f"{content['ename']}: {content['evalue']}" for content in self.contents("error"))

    def times(self, message_type: str) -> list[float]:
        return [at for at, message in self.messages if message["msg_type"] == message_type]


class Kernel:
    """One kernel. ``folder`` holds its specification and is where it works; ``live``: as a Jupyter server starts it."""

    def __init__(self, python: str, folder: Path, *, live: bool = False) -> None:
        spec = folder / "kernels" / "tested"
        spec.mkdir(parents=True)
        argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "tested", "language": "python"}))
        specs = jupyter_client.kernelspec.KernelSpecManager(kernel_dirs=[str(spec.parent)])
        environment = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
        environment["IPYTHONDIR"] = str(folder / "ipython")
        if live:
            environment["JPY_SESSION_NAME"] = str(folder / "tested.ipynb")
        self.manager = jupyter_client.KernelManager(kernel_name="tested", kernel_spec_manager=specs)
        self.manager.start_kernel(cwd=str(folder), env=environment)
        self._client = self.manager.client()
        self._client.start_channels()
        try:
            self._client.wait_for_ready(timeout=_START_S)
        except BaseException:
            self.shutdown()
            raise

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        self._client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel()

    def send(self, code: str) -> str:
        """Send a cell without waiting for it."""
        return str(self._client.execute(code))

    def collect(self, sent: str, timeout_s: float = 60) -> CellResult:
        """What the cell sends from now on until it ends."""
        result = CellResult()
        began = time.monotonic()
        while True:
            left_s = timeout_s - (time.monotonic() - began)
            try:
                message = self._client.get_iopub_msg(timeout=max(0.01, left_s))
            except queue.Empty:
                raise TimeoutError(f"no end of the cell within {timeout_s} s; it sent {result.messages}") from None
            if message["parent_header"].get("msg_id") != sent:
                continue
            result.messages.append((time.monotonic() - began, message))
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        while (reply := self._client.get_shell_msg(timeout=timeout_s))["parent_header"].get("msg_id") != sent:
            pass
        result.status = reply["content"]["status"]
        return result

    def run(self, code: str, timeout_s: float = 60) -> CellResult:
        """Run a cell to its end."""
        return self.collect(self.send(code), timeout_s)

    def wait_for_output(self, sent: str, text: str, timeout_s: float = 30) -> None:
        """Wait until a running cell has printed something: then it is where the test wants it."""
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            message = self._client.get_iopub_msg(timeout=timeout_s)
            if message["parent_header"].get("msg_id") == sent and text in message["content"].get("text", ""):
                return
        raise TimeoutError(f"the cell did not print {text!r}")

    def value(self, expression: str) -> Any:
        """A plain value from the kernel, silently: no hook sees it."""
        sent = self._client.execute("", silent=True, user_expressions={"value": expression})
        while (reply := self._client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != sent:
            pass
        answer = reply["content"]["user_expressions"]["value"]
        assert answer["status"] == "ok", answer
        return ast.literal_eval(answer["data"]["text/plain"])

    def last_run(self) -> dict[str, Any]:
        """The last recorded run, as a dictionary."""
        run: dict[str, Any] = self.value("__import__('memcell').history().to_dicts()[-1]")
        return run
