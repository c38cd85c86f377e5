"""Which threads of a stopped run are ended: those at work for it, at once or not at all."""

from __future__ import annotations

import gc
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest

from memcell.errors import MemoryLimitExceeded
from memcell.protect.cell_threads import CellThreads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="when a thread was started is read from /proc")


@pytest.fixture
def threads():
    """All threads but memcell's and the main one count as the run's."""
    threads = CellThreads(0.0)
    yield threads
    threads.withdraw()


class Work:
    """Runs until it is released, and says that it does."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.is_released = False

    def __call__(self) -> str:
        self.has_begun.set()
        while not self.is_released:
            pass
        return "done"


def thread_of(module: str, file: str, work: Work) -> tuple[threading.Thread, queue.SimpleQueue[object]]:
    """A thread in which a function of this module calls the work, and where it puts what came of that."""
    answers = queue.SimpleQueue[object]()
    namespace = {"__name__": module, "work": work, "answers": answers, "Stopped": MemoryLimitExceeded}
    source = (
        "def run():\n    try:\n        answers.put(work())\n    except Stopped as error:\n        answers.put(error)"
    )
    exec(compile(source, file, "exec"), namespace)
    thread = threading.Thread(target=namespace["run"])
    thread.start()
    assert work.has_begun.wait(5)
    return thread, answers


def test_the_call_that_a_pool_runs_fails_and_the_pool_works_on(threads):
    with ThreadPoolExecutor(2) as pool:
        work = Work()
        running = pool.submit(work)
        assert work.has_begun.wait(5)
        threads.stop()
        with pytest.raises(MemoryLimitExceeded):
            running.result(5)
        threads.withdraw()
        assert list(pool.map(abs, range(-8, 0), timeout=5)) == list(range(8, 0, -1))


def test_idle_threads_of_a_pool_are_left_alone_and_nothing_comes_later(threads):
    with ThreadPoolExecutor(4) as pool:
        begun = threading.Barrier(4)
        list(pool.map(lambda _: begun.wait(5), range(4)))
        threads.stop()
        assert list(pool.map(abs, range(8), timeout=5)) == list(range(8))


def test_a_thread_pool_of_multiprocessing_is_left_alone_while_idle(threads):
    with ThreadPool(2) as pool:
        assert pool.map(abs, range(4)) == list(range(4))
        threads.stop()
        assert pool.map_async(abs, range(4)).get(5) == list(range(4))


def test_a_consumer_that_waits_for_its_queue_goes_on(threads):
    questions, answers = queue.Queue[int](), queue.SimpleQueue[int]()

    def consume() -> None:
        for question in iter(questions.get, 0):
            answers.put(question)

    thread = threading.Thread(target=consume)
    thread.start()
    questions.put(1)
    assert answers.get(timeout=5) == 1
    threads.stop()
    questions.put(2)
    assert answers.get(timeout=5) == 2
    questions.put(0)
    thread.join()


def test_what_was_not_raised_in_time_is_withdrawn(threads):
    questions, answers, has_begun = queue.SimpleQueue[int](), queue.SimpleQueue[object](), threading.Event()

    def consume() -> None:
        has_begun.set()
        try:
            answers.put(questions.get())  # which waits in C: the frame does not show it
        except MemoryLimitExceeded as error:
            answers.put(error)

    thread = threading.Thread(target=consume)
    thread.start()
    assert has_begun.wait(5)
    threads.stop()
    threads.withdraw()
    threads.withdraw()
    questions.put(1)
    assert answers.get(timeout=5) == 1
    thread.join()


@pytest.mark.parametrize("is_collecting", [True, False])
def test_no_garbage_is_collected_while_frames_are_looked_at(threads, monkeypatch, is_collecting):
    seen, current_frames = [], sys._current_frames
    monkeypatch.setattr(sys, "_current_frames", lambda: (seen.append(gc.isenabled()), current_frames())[1])
    work = Work()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        assert work.has_begun.wait(5)
        (gc.enable if is_collecting else gc.disable)()
        try:
            threads.stop()
            assert gc.isenabled() is is_collecting
        finally:
            gc.enable()
        assert isinstance(running.exception(5), MemoryLimitExceeded)
    assert seen == [False]


def test_what_was_withdrawn_does_not_hang_code_that_is_traced(threads):
    questions, has_begun = queue.SimpleQueue[int](), threading.Event()

    def consume() -> None:
        has_begun.set()
        questions.get()

    thread = threading.Thread(target=consume)
    thread.start()
    assert has_begun.wait(5)
    assert threads.stop()
    threads.withdraw()
    traced = "import sys; sys.settrace(lambda *_: None)\ndef called(): pass\ncalled()\nsys.settrace(None)"
    before = sys.gettrace()
    exec(traced, {})
    sys.settrace(before)
    questions.put(1)
    thread.join()


def test_a_thread_that_was_there_before_goes_on():
    work = Work()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        assert work.has_begun.wait(5)
        later = CellThreads(float("inf"))
        later.stop()
        work.is_released = True
        assert running.result(5) == "done"


@pytest.mark.parametrize(
    ("module", "file", "is_stopped"),
    [
        ("__main__", "<ipython-input-1>", True),
        ("my_module", "/home/me/my_module.py", True),
        ("library", "/usr/lib/python3/site-packages/library.py", True),  # below which code of the user runs
        ("ipykernel.subshell", "/usr/lib/python3/site-packages/ipykernel/subshell.py", False),
    ],
)
def test_what_runs_code_of_the_user_ends_unless_it_is_the_shells(threads, module, file, is_stopped):
    work = Work()
    thread, answers = thread_of(module, file, work)
    threads.stop()
    work.is_released = not is_stopped
    assert isinstance(answers.get(timeout=5), MemoryLimitExceeded) == is_stopped
    thread.join()


def test_a_librarys_own_thread_is_left_alone(threads):
    begun, released, ended = threading.Event(), [], []
    namespace = {
        "__name__": "library",
        "Thread": threading.Thread,
        "begun": begun,
        "released": released,
        "ended": ended,
    }
    source = """
class Own(Thread):
    def run(self):
        begun.set()
        while not released: pass
        ended.append("done")
"""
    exec(compile(source, "/usr/lib/python3/site-packages/library.py", "exec"), namespace)
    thread = namespace["Own"]()
    thread.start()
    assert begun.wait(5)
    threads.stop()
    released.append(True)
    thread.join()
    assert ended == ["done"]
