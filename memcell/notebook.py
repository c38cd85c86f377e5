"""A notebook in a kernel of its own, driven from outside: read it, run its cells, ask the kernel in between.

Shared by ``memcell check`` and ``memcell demo``, and the only module that knows nbclient and nbformat.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import uuid
import warnings
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from memcell.errors import NotebookError
from memcell.measure.kernel_process import KernelProcess, end_kernel
from memcell.units import format_round
from memcell.view.phrases import one_line

DEFAULT_KERNEL = "python3"
ENDED_BY_ITSELF = "the kernel ended, as exit() and quit() make it"
_MARK = "MEMCELL_NOTEBOOK"
_START_S = 60
#: Just after a cell that failed a kernel may still be turning away what comes next.
_ASKS = 5
#: Of answers: nothing in a notebook makes or changes this type.
_MIME = "application/vnd.memcell+json"
#: What breaks where something of one type stands in the place of another; the messages are about the reader's code.
_ODD_LAYOUT = (AttributeError, IndexError, KeyError, RecursionError, TypeError)
#: nbclient tells its log what it also raises.
_quiet = logging.getLogger("memcell.nbclient")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


class CellFailedError(NotebookError):
    """A cell raised an error. ``name`` is its class."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(_error_line(name, message))
        self.name = name


class CellTimeoutExpiredError(NotebookError):
    """A cell did not end in time. The kernel is of no use any more."""


class KernelDiedError(NotebookError):
    """The kernel is gone. The message says how, and how much memory it had."""


def read_notebook(path: Path) -> Any:
    """Read a notebook of any format up to 4, brought to the present one.

    Raises:
        NotebookError: It does not exist, or is no notebook.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        is_folder = path.is_dir()
        hint = "name the notebooks in it" if is_folder else "check the path"
        raise NotebookError(f"cannot be read: {'it is a folder' if is_folder else error.strerror}; {hint}") from error
    except UnicodeDecodeError as error:
        raise NotebookError("is no notebook: it is not UTF-8 text") from error
    return parse_notebook(text)


def parse_notebook(text: str) -> Any:
    """As ``read_notebook``, for the text of one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cells without an id: they get one
            notebook = nbformat.reads(text, as_version=4)
        _kernel_name(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                _ = cell.source.strip(), "" in cell.metadata.get("tags", [])
    except NotebookError:
        raise
    except _ODD_LAYOUT as error:
        raise NotebookError("is no notebook: it is JSON, but not laid out as a notebook") from error
    except Exception as error:  # what the file holds may break the reader anywhere
        reason = str(error) or type(error).__name__
        raise NotebookError(f"is no notebook: {one_line(reason, 120)}") from error
    return notebook


class NotebookKernel:
    """Starts the notebook's kernel, between ``__enter__`` and ``__exit__``; afterwards it and all it started is gone.

    Args:
        notebook: From ``read_notebook``.
        folder: Where it works.
        kernel_name: Another kernel than the notebook's own.
        timeout_s: How long a cell may run; None for as long as it likes.
    """

    def __init__(
        self, notebook: Any, folder: Path, *, kernel_name: str | None = None, timeout_s: int | None = None
    ) -> None:
        self.name = kernel_name or _kernel_name(notebook)
        self._folder = folder
        self._timeout_s = timeout_s
        self._client: Any = NotebookClient(
            notebook, timeout=timeout_s, kernel_name=self.name, startup_timeout=_START_S, log=_quiet
        )
        self._process: KernelProcess | None = None
        self._mark = uuid.uuid4().hex
        self._undo = ExitStack()

    def __enter__(self) -> NotebookKernel:
        """Start the kernel.

        Raises:
            NotebookError: There is no such kernel, it is not one of Python, or it does not start.
        """
        self._require_python()
        # A terminal inside JupyterLab has the name of a notebook with a front end. Here there is none.
        environment = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
        with ExitStack() as undo:
            log = undo.enter_context(tempfile.TemporaryFile())
            undo.callback(self._end_process)
            try:
                undo.enter_context(
                    self._client.setup_kernel(
                        cwd=str(self._folder), env={**environment, _MARK: self._mark}, stdout=log, stderr=log
                    )
                )
            except (OSError, RuntimeError) as error:  # a TimeoutError is an OSError
                raise NotebookError(f"kernel {self.name!r} does not start: {_last_line(log) or error}") from error
            pid = getattr(self._client.km.provisioner, "pid", None)
            if pid is not None:
                self._process = KernelProcess(pid)
                undo.callback(self._process.stop)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._client.shutdown_kernel = "immediate"  # it may be busy with a cell that does not end
        self._undo.close()

    @property
    def level_bytes(self) -> int:
        """The kernel's resident memory at the last sample; 0 where the kernel runs elsewhere."""
        return self._process.last_bytes if self._process is not None else 0

    def run(self, index: int, cell_id: str) -> None:
        """Run the cell at ``index`` of the notebook. Its outputs replace those that it had.

        Args:
            index: Its place.
            cell_id: The key under which memcell knows it in the kernel: what a front end sends with a cell.

        Raises:
            CellFailedError: It raised an error, and is not tagged ``raises-exception``.
            CellTimeoutExpiredError: It did not end in time.
            KernelDiedError: The kernel is gone.
        """
        self._client.kc.session.metadata = {"cellId": cell_id}
        try:
            self._client.execute_cell(self._client.nb.cells[index], index)
        except CellExecutionError as error:
            raise CellFailedError(error.ename, error.evalue) from error
        except CellTimeoutError as error:
            raise CellTimeoutExpiredError(f"did not end within {self._timeout_s} s") from error
        except DeadKernelError as error:
            raise self._death() from error

    def ask(self, expression: str) -> Any:
        """A plain value from the kernel, in between two cells: no cell is counted and no name is left.

        Args:
            expression: In it ``m`` stands for the module ``memcell.ipython.asked``.

        Raises:
            NotebookError: The kernel cannot answer; the message is the error there.
            CellTimeoutExpiredError: It did not answer in time: what a cell has left in its event loop keeps it busy.
            KernelDiedError: The kernel is gone.
        """
        asked = "__import__('memcell.ipython.asked', fromlist=['Answer'])"
        code = f"(lambda m: m.Answer({expression}, {_MIME!r}))({asked})"
        self._client.kc.session.metadata = {}
        content: dict[str, Any] = {}
        for _ in range(_ASKS):
            sent = self._client.kc.execute("", silent=True, store_history=False, user_expressions={"answer": code})
            try:
                # With a cell, which nbclient names if there is no answer in time.
                content = self._client.wait_for_reply(sent, nbformat.v4.new_code_cell())["content"]
            except CellTimeoutError as error:
                raise CellTimeoutExpiredError(f"did not answer within {self._timeout_s} s") from error
            except DeadKernelError as error:
                raise self._death() from error
            if content["status"] != "aborted":
                break
        answer = content.get("user_expressions", {}).get("answer", content)
        if answer["status"] != "ok":
            raise NotebookError(_error_line(answer.get("ename"), answer.get("evalue")))
        return answer["data"][_MIME]["value"]

    def _require_python(self) -> None:
        specs = KernelSpecManager()
        try:
            language = specs.get_kernel_spec(self.name).language
        except NoSuchKernel:
            installed = ", ".join(sorted(specs.find_kernel_specs())) or "none"
            raise NotebookError(
                f"kernel {self.name!r} is not installed; installed: {installed}; choose one with --kernel"
            ) from None
        if language.lower() != "python":
            raise NotebookError(f"kernel {self.name!r} is for {language}; memcell looks into Python kernels only")

    def _death(self) -> KernelDiedError:
        code = getattr(getattr(self._client.km.provisioner, "process", None), "returncode", None)
        level = f"; {format_round(self.level_bytes)} at the last sample" if self.level_bytes else ""
        return KernelDiedError(f"{_how_it_ended(code)}{level}")

    def _end_process(self) -> None:
        # By its mark a kernel is found whose start was interrupted, and whose pid nobody has told.
        end_kernel(self._process.pid if self._process is not None else None, (_MARK, self._mark))


def _kernel_name(notebook: Any) -> str:
    """The kernel that a notebook names; like Jupyter, the usual one for a notebook that names none."""
    name = notebook.metadata.get("kernelspec", {}).get("name") or DEFAULT_KERNEL
    if not isinstance(name, str):
        raise NotebookError(f"is no notebook: the name of its kernel is {one_line(repr(name), 80)}")
    return name


def _error_line(name: str, message: str) -> str:
    return one_line(f"{name}: {message}" if message else name, 200)


def _how_it_ended(code: int | None) -> str:
    """What an exit status says of a kernel that is gone."""
    if code is None:
        return "the kernel is gone"
    if code == 0:
        return ENDED_BY_ITSELF
    if code == -signal.SIGKILL:
        return "the kernel was killed (SIGKILL), as the system does when memory runs out"
    if -code in set(signal.Signals):
        return f"the kernel died of {signal.Signals(-code).name}"
    return f"the kernel ended with exit status {code}"


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return one_line(lines[-1], 200) if lines else ""
