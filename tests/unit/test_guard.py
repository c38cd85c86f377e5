"""The kernel's side of the guard: signals of the test's own stand for those of the watcher."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time

import pytest

from memcell.errors import MemoryLimitExceeded
from memcell.measure.stop_orders import SIZE, StopOrders
from memcell.protect import frames
from memcell.protect.guard import Guard
from memcell.protect.policy import Thresholds
from memcell.records.protected import Ceiling
from memcell.records.sized import ObjectSize
from memcell.units import MIB
from memcell.watch_block import StoppableBlock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the watcher reads /proc")


class Scene:
    """A guard, and what a watcher would do to it."""

    def __init__(self, ceiling: Ceiling | None = None) -> None:
        self.orders: StopOrders | None = StopOrders(bytearray(SIZE))
        self.near: list[object] = []
        self.relieved = threading.Event()
        self.guard = Guard(
            orders=lambda: self.orders,
            ceiling=lambda: ceiling,
            thresholds=Thresholds,
            own_bytes=lambda: 100 * MIB,
            find_largest=lambda variables: tuple(ObjectSize(name, "x", 1) for name in variables),
            explain=lambda stop: f"{stop.used_bytes // MIB} of {stop.limit_bytes // MIB} ({stop.source})",
            relieve=self._relieve,
        )

    def _relieve(self, near: object) -> None:
        self.near.append(near)
        self.relieved.set()

    def arm(self, run: object = "run", limit: int | None = 500) -> None:
        code = StoppableBlock(sys._getframe(1))
        self.guard.arm(run, 100 * MIB, code, None if limit is None else limit * MIB)

    def fire(self, *, slot: int = 1, force: int = 1, signals: tuple[int, ...] = (signal.SIGURG,)) -> None:
        """As the watcher does; the handler runs before this returns."""
        assert self.orders is not None
        self.orders.note_found(slot, 510 * MIB, 510 * MIB, 0)
        self.orders.begin_firing(stop=True, force=force, interrupt=signal.SIGINT in signals)
        self.orders.end_firing()
        for number in signals:
            os.kill(os.getpid(), number)


@pytest.fixture
def scene():
    before = signal.getsignal(signal.SIGURG)
    scene = Scene()
    yield scene
    scene.guard.close()
    assert signal.getsignal(signal.SIGURG) == before


def test_a_run_is_stopped_with_an_error_that_tells_why(scene):
    block = "what it holds"
    scene.arm()
    with pytest.raises(MemoryLimitExceeded, match=r"510 of 500 \(this run\)") as caught:
        scene.fire()
    assert caught.value.stop.grown_bytes == 410 * MIB
    assert block
    assert "block" in [size.name for size in caught.value.stop.largest]
    assert caught.value.stop.is_raised
    assert scene.guard.disarm("run") == caught.value.stop


def test_except_exception_does_not_catch_it():
    assert issubclass(MemoryLimitExceeded, KeyboardInterrupt)
    assert not issubclass(MemoryLimitExceeded, Exception)


def test_a_run_that_was_not_stopped_says_so(scene):
    scene.arm()
    assert scene.guard.disarm("run") is None
    assert scene.guard.disarm("run") is None


def test_a_signal_that_nobody_sent_on_purpose_does_nothing(scene):
    scene.arm()
    os.kill(os.getpid(), signal.SIGURG)
    assert scene.guard.disarm("run") is None
    os.kill(os.getpid(), signal.SIGURG)


def test_a_signal_after_the_run_does_nothing(scene):
    scene.arm()
    scene.guard.disarm("run")
    scene.fire()
    scene.arm("next")
    os.kill(os.getpid(), signal.SIGURG)
    assert scene.orders.run() != 0
    scene.guard.disarm("next")
    assert scene.orders.run() == 0


def test_a_signal_outside_of_the_runs_code_does_not_raise(scene):
    def arm_elsewhere() -> None:
        scene.arm()

    arm_elsewhere()  # whose frame has ended: nothing of the block is on the stack
    scene.fire()
    stop = scene.guard.disarm("run")
    assert stop is not None
    assert not stop.is_raised


def test_the_end_of_a_run_waits_for_a_signal_that_is_under_way(scene):
    scene.arm()
    scene.orders.begin_firing(words=StopOrders.WARN)
    ending = threading.Timer(0.05, scene.orders.end_firing)
    ending.start()
    began = time.monotonic()
    scene.guard.disarm("run")
    assert 0.03 < time.monotonic() - began < 0.5
    ending.join()


def test_but_not_for_ever_if_the_watcher_died_of_it(scene):
    scene.arm()
    scene.orders.begin_firing(words=StopOrders.WARN)
    began = time.monotonic()
    scene.guard.disarm("run")
    assert time.monotonic() - began < 0.5


def test_the_watchers_ctrl_c_does_not_come_out_of_the_end_of_a_run(scene, monkeypatch):
    scene.arm()
    scene.orders.begin_firing(stop=True, force=1, interrupt=True)
    sending = threading.Timer(0.03, lambda: (os.kill(os.getpid(), signal.SIGINT), scene.orders.end_firing()))
    sending.start()
    assert scene.guard.disarm("run") is not None
    sending.join()


def test_the_users_own_ctrl_c_does(scene):
    scene.arm()
    scene.orders.begin_firing(words=StopOrders.WARN)
    sending = threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGINT))
    sending.start()
    with pytest.raises(KeyboardInterrupt):
        scene.guard.disarm("run")
    sending.join()
    scene.orders.end_firing()
    assert scene.guard.disarm("run") is None


def test_a_bound_is_lifted_before_the_error_and_at_the_end(scene):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    for fired in (True, False):
        scene.arm()
        bound = 64 << 30
        resource.setrlimit(resource.RLIMIT_DATA, (bound, before[1]))
        scene.orders.note_bound(before[0], bound)
        if fired:
            with pytest.raises(MemoryLimitExceeded):
                scene.fire()
            assert resource.getrlimit(resource.RLIMIT_DATA) == before
        else:
            scene.orders.begin_firing(stop=True, force=1)  # its signal was never heard
            scene.orders.end_firing()
        scene.guard.disarm("run")
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
        assert scene.orders.bound() is None


def test_a_bound_that_the_user_set_meanwhile_stays(scene):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    scene.arm()
    scene.orders.note_bound(before[0], 64 << 30)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (65 << 30, before[1]))
        with pytest.raises(MemoryLimitExceeded):
            scene.fire()
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == 65 << 30
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    scene.guard.disarm("run")


def test_an_inner_run_leaves_the_outer_one_guarded(scene):
    scene.arm("outer", 800)
    scene.arm("inner", 500)
    with pytest.raises(MemoryLimitExceeded, match="of 500"):
        scene.fire()
    assert scene.guard.disarm("inner") is not None
    with pytest.raises(MemoryLimitExceeded, match="of 800"):
        scene.fire()
    assert scene.guard.disarm("outer") is not None
    assert scene.orders.run() == 0


def test_the_sessions_limit_holds_without_one_of_the_runs_own():
    scene = Scene(Ceiling("group", 1000 * MIB, "cgroup v2 /", "/usage", "/stat", "inactive_file"))
    scene.arm(limit=None)
    ((_, slot),) = scene.orders.slots()
    assert (slot.kind, slot.stop, slot.clean, slot.warn) == ("group", 936 * MIB, 800 * MIB, 700 * MIB)
    assert slot.grown_from == 110 * MIB
    assert scene.orders.files() == ("/usage", "/stat", "inactive_file")
    with pytest.raises(MemoryLimitExceeded, match=r"of 1000 \(cgroup v2 /\)"):
        scene.fire(slot=0)
    scene.guard.disarm("run")
    scene.guard.close()


def test_code_that_swallows_everything_is_left_at_the_next_line(scene):
    scene.arm()
    rounds = 0
    with pytest.raises(MemoryLimitExceeded):  # noqa: PT012 - the loop is what is left
        while rounds < 50:
            try:
                rounds += 1
                scene.fire(force=2)
            except:  # noqa: E722
                pass
    assert rounds == 1
    scene.guard.disarm("run")
    assert sys.gettrace() is None or "memcell" not in str(sys.gettrace())


def test_a_warning_comes_from_a_thread_and_the_run_goes_on(scene):
    scene.arm()
    scene.orders.note_found(1, 410 * MIB, 410 * MIB, 0)
    scene.orders.begin_firing(words=StopOrders.CLEAN)
    scene.orders.end_firing()
    os.kill(os.getpid(), signal.SIGURG)
    assert scene.relieved.wait(5)
    (near,) = scene.near
    assert (near.used_bytes, near.limit_bytes, near.is_clean_due) == (410 * MIB, 500 * MIB, True)
    os.kill(os.getpid(), signal.SIGURG)
    assert scene.guard.disarm("run") is None
    assert len(scene.near) == 1


def test_another_thread_is_not_guarded(scene):
    thread = threading.Thread(target=scene.arm)
    thread.start()
    thread.join()
    assert scene.orders.run() == 0


def test_without_a_watcher_nothing_is_guarded(scene):
    scene.orders = None
    scene.arm()
    assert scene.guard.disarm("run") is None


def test_a_forked_child_is_not_guarded_and_can_guard_its_own(scene):
    scene.arm()
    child = os.fork()
    if child == 0:
        try:
            scene.guard.forget_parent()
            os.kill(os.getpid(), signal.SIGURG)
            ok = scene.guard.disarm("run") is None and scene.orders.run() != 0
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert scene.guard.disarm("run") is None


def stop_caller() -> None:
    """What the guard does to code in which its first error was caught."""
    frames.insist([sys._getframe(1)], MemoryLimitExceeded("again"))
    raise MemoryLimitExceeded("first")


def test_to_insist_lets_a_with_statement_come_to_its_end():
    ended = []

    class Context:
        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None:
            ended.append(str(error[1]))
            frames.stop_insisting()

    def stopped() -> None:
        with Context():
            stop_caller()

    with pytest.raises(MemoryLimitExceeded, match="first"):
        stopped()
    assert ended == ["first"]


def test_to_insist_ends_code_that_swallows_every_error():
    swallowed = []

    def swallowing() -> None:
        while len(swallowed) < 10:
            try:
                stop_caller()
            except BaseException as error:
                swallowed.append(error)

    try:
        with pytest.raises(MemoryLimitExceeded, match="again"):
            swallowing()
    finally:
        frames.stop_insisting()
    assert len(swallowed) < 2
