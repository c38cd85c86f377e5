"""Handlers that a re-run cell adds again: only copies go, and nothing that they hold is lost."""

from __future__ import annotations

import io
import logging
import logging.handlers
from collections.abc import Iterator

import pytest

from memcell.clean.libraries import logging as cleaner
from tests.libraries.fresh import in_fresh_process


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("memcell-tests.handlers")
    logger.setLevel(logging.INFO)
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def clean() -> None:
    cleaner.CLEANER.find()()


def test_buffers_of_handlers_that_a_cell_added_again_come_back():
    handlers, freed, records = in_fresh_process(
        """
        import logging, logging.handlers
        logger = logging.getLogger("app")
        logger.setLevel(logging.DEBUG)
        for run in range(6):
            logger.addHandler(logging.handlers.MemoryHandler(10**6, flushLevel=99))
            for i in range(40):
                logger.info("x" * (1 << 20) + str(i))
        clean()
        handlers = [len(logger.handlers)]
        newest = logger.handlers[-1]
        freed = clean("logging-handlers")
        handlers.append(len(logger.handlers))
        print(json.dumps([handlers, freed["logging-handlers"], [logger.handlers == [newest], len(newest.buffer)]]))
        """
    )
    assert handlers == [6, 1]
    assert freed >= 0.95 * 5 * 40 * 2**20
    assert records == [True, 40]


def test_a_message_is_printed_once_again(logger):
    stream = io.StringIO()
    for _ in range(3):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.info("before")
    clean()
    logger.info("after")
    assert stream.getvalue() == "before\n" * 3 + "after\n"
    assert logger.handlers == [handler]
    assert not stream.closed


def test_a_class_that_the_cell_defines_again_is_the_same_class(logger):
    for _ in range(2):

        class Mine(logging.StreamHandler):
            pass

        logger.addHandler(Mine())
    clean()
    assert [type(handler) for handler in logger.handlers] == [Mine]


def test_files_are_closed_and_what_waits_for_them_is_written(logger, tmp_path):
    files = [logging.FileHandler(tmp_path / "log.txt") for _ in range(2)]
    target = logging.FileHandler(tmp_path / "late.txt")
    waiting = [logging.handlers.MemoryHandler(100, target=target) for _ in range(2)]
    for handler in (*files, *waiting):
        logger.addHandler(handler)
    logger.info("kept")
    clean()
    assert logger.handlers == [files[1], waiting[1]]
    assert files[0].stream is None
    assert (tmp_path / "late.txt").read_text() == "kept\n"
    assert waiting[0].buffer == []
    assert len(waiting[1].buffer) == 1, "what the newest has is not written before its time"
    waiting[1].close()
    target.close()


def test_what_differs_stays(logger, tmp_path):
    class Unknown(logging.Handler):
        pass

    stream, detailed, errors = io.StringIO(), logging.StreamHandler(), logging.StreamHandler()
    detailed.setFormatter(logging.Formatter("%(asctime)s"))
    errors.setLevel(logging.ERROR)
    queues = [[], []]
    different = [
        logging.StreamHandler(),
        logging.StreamHandler(stream),
        detailed,
        errors,
        logging.FileHandler(tmp_path / "a", delay=True),
        logging.FileHandler(tmp_path / "b", delay=True),
        *map(logging.handlers.QueueHandler, queues),
        logging.handlers.SocketHandler("localhost", 1),
        logging.handlers.SocketHandler("localhost", 2),
        logging.handlers.HTTPHandler("localhost", "/a"),
        Unknown(),
        Unknown(),
    ]
    for handler in different:
        logger.addHandler(handler)
    clean()
    assert logger.handlers == different


def test_a_copy_that_another_logger_has_too_is_not_closed(logger, tmp_path):
    shared, newest = (logging.FileHandler(tmp_path / "log.txt") for _ in range(2))
    other = logging.getLogger("memcell-tests.other")
    other.addHandler(shared)
    try:
        logger.addHandler(shared)
        logger.addHandler(newest)
        clean()
        assert logger.handlers == [newest]
        assert shared.stream is not None
    finally:
        other.removeHandler(shared)
        shared.close()


def test_one_that_cannot_be_flushed_does_not_save_the_others(logger):
    class Broken(logging.StreamHandler):
        def flush(self) -> None:
            raise OSError("no space left")

    copies = [Broken(), Broken(), logging.NullHandler(), logging.StreamHandler(), logging.StreamHandler()]
    for handler in copies:
        logger.addHandler(handler)
    with pytest.raises(OSError, match="no space left"):
        clean()
    assert logger.handlers == [copies[1], copies[2], copies[4]]
    for handler in copies[:2]:
        handler.flush = lambda: None
