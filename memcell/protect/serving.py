"""The worker's side of ``memcell.isolated``: it calls one function, again and again, and sends what comes of it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from memcell.errors import error_words
from memcell.protect.isolate import refuse_input
from memcell.protect.parcel import KnownNames, Packed, pack, receive, send, unpack

_is_worker = False


def is_worker() -> bool:
    """Whether this process is a worker of an isolated function."""
    return _is_worker


def serve_forked(function: Callable[..., Any], connection: Connection) -> None:
    """The life of a worker that is a fork: it has its function already."""
    # The parent's own streams may be locked by a thread that is not here; a kernel shows what is written to 1 and 2.
    sys.stdout = open(1, "w", buffering=1, closefd=False, encoding="utf-8")  # noqa: SIM115 - as long as the worker
    sys.stderr = open(2, "w", buffering=1, closefd=False, encoding="utf-8")  # noqa: SIM115 - as long as the worker
    _serve(function, connection, KnownNames())


def serve_spawned(connection: Connection) -> None:
    """The life of a worker that is an interpreter of its own: its function comes first."""
    try:
        function = unpack(receive(connection))
    except Exception as error:
        send(connection, ("refusal", f"cannot be read in a new interpreter: {error_words(error)}"))
        return
    _serve(function, connection, lambda _: False)


def _serve(function: Callable[..., Any], connection: Connection, is_known: Callable[[object], bool]) -> None:
    global _is_worker
    _is_worker = True
    pid = os.getpid()
    refuse_input("an isolated function")
    send(connection, ("value", pack(None)))
    while True:
        try:
            packed = receive(connection)
        except (EOFError, OSError):
            return
        if packed is None:
            return
        answer = _answer(function, packed, is_known)
        if os.getpid() != pid:
            return  # a fork of the worker that has come to the end of the function, too
        send(connection, answer)


def _answer(function: Callable[..., Any], packed: Packed, is_known: Callable[[object], bool]) -> tuple[Any, ...]:
    try:
        args, kwargs = unpack(packed)
    except Exception as error:
        return "refusal", f"cannot read its arguments: {error_words(error)}"
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
        text = "".join(traceback.format_exception(type(error), error, trace))
        try:
            packed_error = pack(error.with_traceback(None), is_known)
        except Exception:
            packed_error = None
        return "error", packed_error, error_words(error), text
    try:
        return "value", pack(value, is_known)
    except Exception as error:
        return "refusal", f"returned a {type(value).__name__} that cannot come back: {error_words(error)}"
