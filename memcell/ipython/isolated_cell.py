"""An isolated cell, in the process that runs it: a fork of the kernel, or a new interpreter with a shell of its own.

The cell must not touch what the kernel still uses: its sockets, its event loop, its history, the buffers of its
streams. Whatever it shows goes over the connection, and the kernel shows it.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from IPython.core.display_trap import DisplayTrap
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from traitlets.config import Config

from memcell.errors import error_words
from memcell.ipython.hooks import Hooks
from memcell.ipython.relay import Relay, RelayedStream, Tracebacks, text_of
from memcell.protect import marker
from memcell.protect.isolate import refuse_input
from memcell.protect.parcel import KnownNames, Packed, pack, receive, unpack
from memcell.session import get_session

_is_isolated = False
#: The shell writes the whole tree of such an error to stderr, and did so in the cell.
_GROUPS: Any = getattr(builtins, "BaseExceptionGroup", ())


@dataclass(frozen=True, slots=True)
class CellOrder:
    """What an isolated cell is to do.

    Attributes:
        source: The cell, without the magic's line.
        keep: The variables that go back.
        number: Its number, which tracebacks name.
        in_loop: Whether code finds an event loop running, as it does in a kernel.
    """

    source: str
    keep: tuple[str, ...]
    number: int
    in_loop: bool


def is_isolated() -> bool:
    """Whether this process is one that runs an isolated cell."""
    return _is_isolated


def run_forked(shell: InteractiveShell, order: CellOrder, connection: Connection) -> None:
    """In a fork of the kernel: run the cell in the kernel's own shell."""
    _run(shell, order, connection, KnownNames())


def run_spawned(connection: Connection) -> None:
    """In a new interpreter: run the cell in a new shell with the variables that are sent over."""
    order, colors, packed = receive(connection)
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = colors
    shell = InteractiveShell.instance(config=config)
    from memcell.ipython import load  # the cell may use memcell's magics

    of_kernel = os.environ.get(marker.NAME)
    load(shell)
    # What the cell starts is the kernel's, which ends it or leaves it.
    get_session().configure(end_children=False)
    if of_kernel is not None:
        os.environ[marker.NAME] = of_kernel
    shell.user_ns.update(unpack(packed))
    _run(shell, order, connection, lambda _: False)


def _run(shell: InteractiveShell, order: CellOrder, connection: Connection, is_known: Callable[[object], bool]) -> None:
    global _is_isolated
    _is_isolated = True
    relay = Relay(connection)
    _drop_hooks(shell)
    errors = _redirect(shell, relay)
    shell.execution_count = order.number
    payloads: Any = shell.payload_manager
    payloads.clear_payload()
    # Kept alive: what the cell unbinds is the kernel's too, and must not be finalized by both.
    before = dict(shell.user_ns)
    peak_growth = get_session().meter.peak_growth()
    result = _execute(shell, order)
    relay("peak", peak_growth())
    error = result.error_before_exec or result.error_in_exec
    relay("payloads", payloads.read_payload())
    if error is not None:
        relay("failed", type(error).__name__, text_of(error), errors.take(error), _packed_error(error, is_known))
        return
    errors.flush()
    if not relay.is_of_cell:
        return  # a fork of the cell that has come to its end, too
    _send_kept(shell, order.keep, before, relay, is_known)
    relay("end")
    result.result = None
    shell.displayhook.flush()
    for name, value in list(shell.user_ns.items()):
        if before.get(name) is not value:
            del shell.user_ns[name]  # files that the cell left open are written out


def _drop_hooks(shell: InteractiveShell) -> None:
    """Take memcell's hooks off: the kernel measures the cell, and what the shell does itself (plots) goes on."""
    for hooks in shell.events.callbacks.values():
        for hook in list(hooks):
            if str(getattr(hook, "__module__", "")).startswith("memcell."):
                hooks.remove(hook)
                if isinstance(owner := getattr(hook, "__self__", None), Hooks):
                    owner.forget_parent()  # unloading memcell would tell what is open there


def _redirect(shell: InteractiveShell, relay: Relay) -> Tracebacks:
    """Let everything that the cell shows, in whatever way, go to the kernel."""
    errors = Tracebacks(shell, relay)

    def tell(kind: str, *content: object) -> None:
        errors.make_way()
        relay(kind, *content)

    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        original = getattr(sys, name)
        stream = RelayedStream(relay, tell, name, descriptor, original)
        setattr(sys, name, stream)
        if hasattr(original, "pub_thread"):  # a kernel's stream, that log handlers may hold
            original.write, original.flush = stream.write, stream.flush

    def publish(
        data: Any, metadata: Any = None, *_: object, transient: Any = None, update: bool = False, **__: object
    ) -> None:
        tell("display", data, metadata, transient, update)

    publisher: Any = shell.display_pub
    publisher.publish = publish
    publisher.clear_output = lambda wait=False: tell("clear", wait)

    hook: Any = shell.displayhook
    hook.start_displayhook = hook.write_output_prompt = hook.finish_displayhook = lambda: None
    hook.write_format_data = lambda data, metadata=None: tell("result", data, metadata)
    shell.display_trap = DisplayTrap(hook=hook)

    any_shell: Any = shell
    any_shell._showtraceback = errors.show
    any_shell.show_usage_error = lambda error: errors.show(type(error), error, [f"UsageError: {error}"])

    refuse = refuse_input("an isolated cell")
    if shell.history_manager is not None:
        shell.history_manager.enabled = False
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:
        kernel._input_request = kernel.raw_input = kernel.getpass = refuse
        kernel.session.send = _comm_sender(tell)
    return errors


def _comm_sender(tell: Callable[..., None]) -> Callable[..., None]:
    """In the place of the kernel's way to its front ends: widgets and their progress go over the connection too."""

    def send_comm(
        _stream: object,
        message: Any,
        content: Any = None,
        parent: Any = None,
        ident: Any = None,
        buffers: Sequence[Any] | None = None,
        track: bool = False,  # noqa: ARG001 - of the signature that this takes the place of
        header: Any = None,
        metadata: Any = None,
    ) -> None:
        copies = [bytes(buffer) for buffer in buffers or ()]
        tell("send", message, content, parent, ident, copies, header, metadata)

    return send_comm


def _execute(shell: InteractiveShell, order: CellOrder) -> ExecutionResult:
    source = order.source
    if shell.history_manager is not None and shell.history_manager.input_hist_parsed:
        shell.history_manager.input_hist_parsed[-1] = source  # where the shell looks for a ; at its end
    transformed, problem = source, None
    try:
        transformed = shell.transform_cell(source)
    except Exception:
        problem = sys.exc_info()
    is_async = shell.should_run_async(source, transformed_cell=transformed, preprocessing_exc_tuple=problem)
    if not order.in_loop and not is_async:
        return shell.run_cell(source)  # type: ignore[no-any-return] # IPython before 9.11 has no types
    import asyncio

    async def run() -> Any:
        if not is_async:
            return shell.run_cell(source)
        result = None
        try:
            result = await shell.run_cell_async(source, transformed_cell=transformed, preprocessing_exc_tuple=problem)
        finally:
            shell.events.trigger("post_execute")
            shell.events.trigger("post_run_cell", result)
        return result

    # Never the kernel's own loop: what it waits for is shared with the kernel.
    asyncio._set_running_loop(None)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(run())
    try:
        return loop.run_until_complete(task)  # type: ignore[no-any-return] # as above
    except KeyboardInterrupt:
        task.cancel()
    return loop.run_until_complete(task)  # type: ignore[no-any-return] # as above


def _packed_error(error: BaseException, is_known: Callable[[object], bool]) -> Packed | None:
    """The error for the kernel to raise; None where it has no such class, or would show it in a way of its own."""
    if not isinstance(error, Exception) or isinstance(error, (SyntaxError, _GROUPS)):
        return None
    with contextlib.suppress(Exception):
        str(error)  # the kernel asks for it
        return pack(error.with_traceback(None), is_known)
    return None


def _send_kept(
    shell: InteractiveShell,
    keep: Sequence[str],
    before: dict[str, Any],
    relay: Relay,
    is_known: Callable[[object], bool],
) -> None:
    found = {name: shell.user_ns[name] for name in keep if name in shell.user_ns}
    for name in keep:
        if name not in found:
            relay("lost", name, "the cell has no such variable")
    # Together, so that what they share stays shared; if that fails, one by one, so that it fails for one only.
    if len(found) > 1 and _deliver(found, before, relay, is_known) is None:
        return
    for name, value in found.items():
        reason = _deliver({name: value}, before, relay, is_known)
        if reason is not None:
            relay("lost", name, reason)


def _deliver(
    values: dict[str, Any], before: dict[str, Any], relay: Relay, is_known: Callable[[object], bool]
) -> str | None:
    """Send variables to the kernel; why that failed, or None."""
    try:
        packed = pack(values, is_known)
    except Exception as error:
        return error_words(error)
    relay("kept", packed, any(value is not before.get(name, relay) for name, value in values.items()))
    reason: str | None = receive(relay.connection)
    return reason
