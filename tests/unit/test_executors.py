"""Executors that were used here before: in a forked child they work, or refuse in one line, but never hang."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing.pool
import os
import threading

import pytest

from memcell.protect.isolated_process import fork


def _in_fork(work):
    """What a function returns or raises in a forked child."""

    def tell(connection):
        try:
            connection.send(work())
        except Exception as error:
            connection.send(f"{type(error).__name__}: {error}")

    process = fork(tell)
    try:
        assert process.connection.poll(20), "it hangs"
        return process.connection.recv()
    finally:
        process.close()


@pytest.fixture
def threads():
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        list(executor.map(abs, range(4)))
        yield executor


def test_an_executor_of_threads_gets_new_ones(threads):
    assert _in_fork(lambda: (threads.submit(os.getpid).result() != os.getppid(), list(threads.map(abs, [-1, -2])))) == (
        True,
        [1, 2],
    )
    assert threads.submit(abs, -3).result() == 3


def test_it_can_be_shut_down_there(threads):
    assert _in_fork(lambda: [threads.submit(abs, -1).result(), threads.shutdown()]) == [1, None]
    assert threads.submit(abs, -3).result() == 3


def test_what_waited_in_it_is_done_here_only(threads):
    gate = threading.Event()
    try:
        for _ in range(2):
            threads.submit(gate.wait)
        waiting = threads.submit(os.getpid)
        assert _in_fork(lambda: threads.submit(os.getppid).result()) == os.getpid()
    finally:
        gate.set()
    assert waiting.result() == os.getpid()


def test_that_of_an_event_loop():
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(loop.run_in_executor(None, abs, -1))
        executor = loop._default_executor
        assert _in_fork(lambda: executor.submit(abs, -2).result()) == 2
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_an_executor_of_processes_refuses():
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        assert executor.submit(abs, -1).result() == 1
        assert _in_fork(lambda: executor.submit(abs, -1).result()) == (
            "BrokenProcessPool: this executor was made before this process was forked, and its workers stayed there; "
            "make another one here"
        )
        assert _in_fork(lambda: executor.shutdown()) is None
        assert executor.submit(abs, -1).result() == 1


def _thread_pool():
    return multiprocessing.pool.ThreadPool(1)


def _process_pool():
    return multiprocessing.get_context("fork").Pool(1)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("make", [_thread_pool, _process_pool])
def test_a_pool_refuses(make):
    pool = make()
    try:
        assert pool.apply(abs, (-1,)) == 1
        assert _in_fork(lambda: pool.apply(abs, (-1,))) == "ValueError: Pool not running"
        assert _in_fork(lambda: (pool.close(), pool.terminate())) == (None, None)
        assert pool.apply(abs, (-1,)) == 1
    finally:
        pool.terminate()
        pool.join()


def test_one_that_is_new_there_works(threads):
    def work():
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            return executor.submit(abs, -1).result()

    assert _in_fork(work) == 1
