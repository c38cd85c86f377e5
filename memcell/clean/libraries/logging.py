"""Log handlers that a re-run cell adds again: each of them prints every message, and some keep all of them."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator
from logging import handlers
from types import ModuleType

from memcell.clean.cleaner import library_cleaner
from memcell.clean.libraries.closing import for_each


def clear(module: ModuleType) -> None:
    """Of the handlers of one logger that are made alike and go to the same place, leave only the newest.

    The others are flushed, and closed unless another logger has them too.
    """
    loggers = list(_loggers(module))
    superseded = []
    for logger in loggers:
        newest: dict[Hashable, logging.Handler] = {}
        for handler in list(logger.handlers):
            key = _likeness(handler)
            if key is not None and key in newest:
                superseded.append(newest[key])
                logger.removeHandler(newest[key])
            if key is not None:
                newest[key] = handler
    in_use = {id(handler) for logger in loggers for handler in logger.handlers}
    for_each([handler for handler in superseded if id(handler) not in in_use], _close)


def _loggers(module: ModuleType) -> Iterator[logging.Logger]:
    yield module.root
    for logger in list(module.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):  # others only hold the place of a parent that nobody asked for
            yield logger


def _likeness(handler: logging.Handler) -> Hashable | None:
    """What two handlers have in common when running a cell again made the second; None for one of unknown aim.

    Classes and filters go by their names, because a cell that defines a class makes a new one each time.
    """
    place = _place(handler)
    if place is None:
        return None
    formatter = handler.formatter
    return (
        _class_name(handler),
        place,
        handler.level,
        (_class_name(formatter), formatter._fmt, formatter.datefmt) if formatter else None,
        tuple(_class_name(one) for one in handler.filters),
    )


def _place(handler: logging.Handler) -> Hashable | None:
    """Where the handler's messages go, for the handlers of the standard library and what derives from them."""
    if isinstance(handler, logging.FileHandler):
        return handler.baseFilename
    if isinstance(handler, logging.StreamHandler):
        return id(handler.stream)
    if isinstance(handler, handlers.MemoryHandler):
        return ("memory", id(handler.target), handler.capacity, handler.flushLevel)
    if isinstance(handler, handlers.SysLogHandler):
        return ("syslog", str(handler.address))
    if isinstance(handler, handlers.SocketHandler):
        return ("socket", str(handler.host), handler.port)
    if isinstance(handler, handlers.HTTPHandler):
        return ("http", handler.host, handler.url)
    if isinstance(handler, handlers.QueueHandler):
        return ("queue", id(handler.queue))
    return None


def _class_name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _close(handler: logging.Handler) -> None:
    try:
        handler.flush()
    finally:
        handler.close()
    if isinstance(handler, handlers.BufferingHandler):
        handler.buffer.clear()  # a buffer that goes nowhere, which flushing and closing both leave


CLEANER = library_cleaner(
    "logging-handlers",
    "logging",
    clear,
    effect="state",
    about="closes log handlers that a re-run cell added again; the newest of each kind stays",
)
