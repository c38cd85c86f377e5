"""A real JupyterLab on 127.0.0.1 and a real Chromium that shows it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lazily import Lazily

if TYPE_CHECKING:
    from playwright.sync_api import Page

nbformat = Lazily("nbformat")
playwright = Lazily("playwright.sync_api")


_TOKEN = "memcell"
# Without these Chromium asks for servers on the internet at each start.
_CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Lab:
    """Opens notebooks and runs their cells, as a person would."""

    def __init__(self, folder: Path, chromium: str) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._log = (folder / "lab.log").open("w")
        settings = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # else it asks, on top of the notebook
        environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        }
        self._server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
                *(f"--ServerApp.port={self._port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"),
                *(f"--IdentityProvider.token={_TOKEN}", "--LabApp.expose_app_in_browser=True"),
            ],
            stdout=self._log,
            stderr=self._log,
            env=environment,
        )
        self._wait_for("the server", lambda: self._api("status") is not None, 60)
        self._playwright = playwright.sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=chromium, args=_CHROMIUM_OPTIONS)
        self.page: Page = self._browser.new_page(viewport={"width": 1200, "height": 1000})

    def open(self, name: str, cells: list[str]) -> None:
        """Open a new notebook and wait for its kernel."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self._folder / f"{name}.ipynb")
        self.page.goto(f"http://127.0.0.1:{self._port}/lab/tree/{name}.ipynb?token={_TOKEN}&reset")
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=90_000
        )

    def start(self, index: int) -> None:
        """Run a cell and do not wait for its end."""
        self.page.evaluate(
            """(index) => {
              const notebook = jupyterapp.shell.currentWidget.content;
              notebook.activeCellIndex = index;
              window.cellEnded = false;
              jupyterapp.commands.execute('notebook:run-cell').then(() => { window.cellEnded = true; });
            }""",
            index,
        )

    def has_ended(self) -> bool:
        return bool(self.page.evaluate("() => window.cellEnded"))

    def run(self, index: int) -> None:
        """Run a cell to its end."""
        self.start(index)
        self.page.wait_for_function("() => window.cellEnded", timeout=90_000)

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """The outputs of a cell as the notebook will save them."""
        outputs: list[dict[str, Any]] = self.page.evaluate(
            "(index) => jupyterapp.shell.currentWidget.content.widgets[index].model.toJSON().outputs", index
        )
        return outputs

    def save_and_reopen(self) -> None:
        """Save the notebook, end its kernel and load the page again."""
        self.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
        self.shut_down_kernels()
        self.page.reload()
        self.page.wait_for_function("window.jupyterapp?.shell.currentWidget?.content?.widgets?.length", timeout=90_000)

    def shut_down_kernels(self) -> None:
        for kernel in self._api("kernels") or []:
            self._api(f"kernels/{kernel['id']}", method="DELETE")

    def close(self) -> None:
        self._browser.close()
        self._playwright.stop()
        self.shut_down_kernels()
        self._server.terminate()
        self._server.wait(30)
        self._log.close()

    def _api(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/api/{path}", method=method, headers={"Authorization": f"token {_TOKEN}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                text = response.read()
                return json.loads(text) if text else {}
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def _wait_for(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self._server.poll() is not None:
                raise TimeoutError(f"{what} did not come up; see {self._folder / 'lab.log'}")
            time.sleep(0.1)
