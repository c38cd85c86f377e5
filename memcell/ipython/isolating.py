"""``%%memwatch --isolate``, in the kernel: starts the process that runs the cell, and shows what it sends.

The process is a fork where that is safe; else a new interpreter, to which the variables go that the cell can reach.
"""

from __future__ import annotations

import ast
import functools
import re
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from memcell.errors import IsolatedCellDied, IsolatedCellError, IsolationError, MemcellError, error_words
from memcell.ipython.isolated_cell import CellOrder, is_isolated, run_forked
from memcell.ipython.shown import raise_shown
from memcell.ipython.stopping import is_in_event_loop
from memcell.protect.isolate import end_words, fork_hazard, out_of_memory_kills, require_cloudpickle
from memcell.protect.isolated_process import IsolatedProcess, fork, spawn
from memcell.protect.parcel import KnownNames, Packed, is_same, pack, receive, send, unpack

if TYPE_CHECKING:
    from memcell.session import Session

#: How often the end of the process is looked for while it says nothing.
_LOOK_S = 0.1
_WORD = re.compile(r"[^\W\d]\w*")


def run_isolated(shell: InteractiveShell, session: Session, source: str, keep: Sequence[str]) -> None:
    """Run a cell in a process of its own. What it shows appears here, and the variables of ``keep`` come back.

    Raises:
        UsageError: This process is such a one already.
        MissingLibraryError: It cannot be forked, and cloudpickle is not installed.
        IsolatedCellDied: The process crashed or was killed.
        IsolationError: A variable of ``keep`` could not come back; the others did.
        Exception: What the cell raised, or an ``IsolatedCellError`` where its class is unknown here.
    """
    if is_isolated():
        raise UsageError("%%memwatch: this cell is isolated already; take --isolate off the inner one")
    order = CellOrder(source, tuple(keep), _number(shell), is_in_event_loop())
    kills_before = out_of_memory_kills()
    with _CtrlC() as ctrl_c:
        process = _start(shell, order)
        conversation = _Conversation(shell, session, process)
        try:
            ctrl_c.goes_to(process)
            conversation.hold()
        finally:
            exit_code = process.close()
    if conversation.failure is not None:
        raise_shown(*conversation.failure)
    if ctrl_c.count and not conversation.is_complete and exit_code in (1, -signal.SIGINT, -signal.SIGKILL):
        raise_shown(KeyboardInterrupt(), ["KeyboardInterrupt: the isolated cell was ended"])
    if not conversation.is_complete:
        words = end_words(exit_code, out_of_memory=out_of_memory_kills() > kills_before)
        _raise_line(IsolatedCellDied(f"the isolated cell's process {words}; this kernel and its variables are intact"))
    if conversation.lost:
        lost = "; ".join(f"{name} ({reason})" for name, reason in conversation.lost.items())
        kept = ", ".join(conversation.kept) or "nothing"
        _raise_line(IsolationError(f"--keep: did not come back: {lost}; came back: {kept}"))


class _CtrlC:
    """Lets Ctrl-C through to the cell: the first interrupts it, the next ends it."""

    def __init__(self) -> None:
        self.count = 0
        self._process: IsolatedProcess | None = None
        self._is_here = threading.current_thread() is threading.main_thread()
        self._previous: Any = None

    def __enter__(self) -> _CtrlC:
        if self._is_here:
            self._previous = signal.signal(signal.SIGINT, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_here:
            signal.signal(signal.SIGINT, self._previous)

    def goes_to(self, process: IsolatedProcess) -> None:
        """Begin; what came before counts."""
        self._process = process
        if self.count:
            process.interrupt()

    def _pass_on(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self._process is not None:
            if self.count == 1:
                self._process.interrupt()
            else:
                self._process.kill()


class _Conversation:
    """What the process says, until it ends."""

    def __init__(self, shell: InteractiveShell, session: Session, process: IsolatedProcess) -> None:
        self._shell: Any = shell
        self._session = session
        self._process = process
        self.failure: tuple[BaseException, list[str]] | None = None
        self.is_complete = False
        self.kept: list[str] = []
        self.lost: dict[str, str] = {}

    def hold(self) -> None:
        """Do what each message asks for."""
        connection = self._process.connection
        while True:
            try:
                message = receive(connection) if connection.poll(_LOOK_S) else None
            except (EOFError, ConnectionError):
                break
            if message is not None:
                kind, *content = message
                getattr(self, f"_on_{kind}")(*content)
            elif self._process.has_ended():
                return
        while not self._process.has_ended():
            threading.Event().wait(0.002)

    def _on_write(self, name: str, text: str) -> None:
        getattr(sys, name).write(text)

    def _on_display(self, data: Any, metadata: Any, transient: Any, update: bool) -> None:
        self._shell.display_pub.publish(data=data, metadata=metadata, transient=transient, update=update)

    def _on_clear(self, wait: bool) -> None:
        self._shell.display_pub.clear_output(wait)

    def _on_result(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        if hasattr(sys.displayhook, "outputs"):  # %%capture
            sys.displayhook.outputs.append({"data": data, "metadata": metadata})
            return
        hook = self._shell.displayhook
        hook.start_displayhook()
        hook.write_output_prompt()
        hook.write_format_data(data, metadata)
        hook.finish_displayhook()

    def _on_traceback(self, name: str, text: str, lines: list[str]) -> None:
        self._shell._showtraceback(type(name, (IsolatedCellError,), {}), text, lines)

    def _on_send(
        self, message: Any, content: Any, parent: Any, ident: Any, buffers: list[bytes], header: Any, metadata: Any
    ) -> None:
        kernel = self._shell.kernel
        kernel.session.send(
            kernel.iopub_socket,
            message,
            content,
            parent=parent,
            ident=ident,
            buffers=buffers,
            header=header,
            metadata=metadata,
        )

    def _on_peak(self, growth_bytes: int) -> None:
        self._session.meter.note_isolated(growth_bytes)

    def _on_payloads(self, payloads: list[dict[str, Any]]) -> None:
        for payload in payloads:
            if payload.get("source") != "ask_exit":
                self._shell.payload_manager.write_payload(payload)

    def _on_kept(self, packed: Packed, is_bound: bool) -> None:
        reason = None
        try:
            values = unpack(packed)
        except Exception as error:
            reason = error_words(error)
        else:
            if is_bound or not self._has_them(packed, values):
                self._shell.user_ns.update(values)
            self.kept += values
        send(self._process.connection, reason)

    def _has_them(self, packed: Packed, names: Iterable[str]) -> bool:
        """Whether the cell, which bound none of these variables anew, has not changed their values either.

        The kernel's own objects then stay: a copy would no longer be what other variables refer to.
        """
        try:
            values = {name: self._shell.user_ns[name] for name in names}
            return is_same(pack(values, KnownNames()), packed)
        except Exception:  # deleted meanwhile, or cannot be packed here: what came is certain
            return False

    def _on_lost(self, name: str, reason: str) -> None:
        self.lost[name] = reason

    def _on_failed(self, name: str, text: str, lines: list[str], packed: Packed | None) -> None:
        error: BaseException = IsolatedCellError(f"{name}: {text}" if text else name)
        if name in ("KeyboardInterrupt", "CancelledError"):
            error = KeyboardInterrupt(text)
        elif packed is not None:
            try:
                error = unpack(packed)
            except Exception:
                packed = None  # its class is the cell's own
        self.failure = (error, lines)

    def _on_end(self) -> None:
        self.is_complete = True


def _start(shell: InteractiveShell, order: CellOrder) -> IsolatedProcess:
    hazard = fork_hazard()
    if hazard is None:
        sys.stdout.flush()
        sys.stderr.flush()
        return fork(functools.partial(run_forked, shell, order))
    try:
        require_cloudpickle(f"--isolate: the cell runs in a new interpreter, since {hazard}")
    except MemcellError as error:
        _raise_line(error)
    packed, left_out = _pack_reachable(shell, order.source)
    if left_out:
        print(f"memcell: not in the isolated cell: {'; '.join(left_out)}", file=sys.stderr)
    process = spawn("memcell.ipython.isolated_cell:run_spawned")
    try:
        send(process.connection, (order, shell.colors, packed))
    except BaseException:
        process.close()
        raise
    return process


def _pack_reachable(shell: InteractiveShell, source: str) -> tuple[Packed, list[str]]:
    """The variables that the cell can name, pickled, and those among them that cannot be."""
    names = reachable_names(shell.transform_cell(source))
    hidden = shell.user_ns_hidden
    values = {
        name: value
        for name, value in shell.user_ns.items()
        if name in names and not (name in hidden and hidden[name] is value)
    }
    left_out: list[str] = []
    try:
        return pack(values), left_out
    except Exception:
        for name, value in list(values.items()):
            try:
                pack(value)
            except Exception as error:
                del values[name]
                left_out.append(f"{name} ({error_words(error)})")
        return pack(values), left_out


def reachable_names(python: str) -> set[str]:
    """The names that some code can read: those that it has, and the words in its strings, where magics find theirs."""
    try:
        tree = ast.parse(python)
    except SyntaxError:
        return set(_WORD.findall(python))
    names = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.update(_WORD.findall(node.value))
    return names


def _number(shell: InteractiveShell) -> int:
    manager = shell.history_manager
    return max(1, len(manager.input_hist_parsed) - 1) if manager is not None else shell.execution_count


def _raise_line(error: MemcellError) -> NoReturn:
    raise_shown(error, [error_words(error)])
