"""What the watcher does as memory fills: told by a fake process and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memcell.measure import stopper
from memcell.measure.stop_orders import SIZE, Levels, StopOrders
from memcell.measure.stopper import PAGE, SIGINT, Stopper
from memcell.units import GIB, MIB

SIGURG = 23


class FakeKernel:
    """A process with these levels in MiB; it notes what is done to it."""

    def __init__(self) -> None:
        self.own = 100
        self.data = 300
        self.handlers = {SIGURG, SIGINT}
        self.waiting = False
        self.mapped = frozenset({"libc.so.6"})
        self.done: list[object] = []
        self.soft = -1

    def undroppable_bytes(self) -> int:
        return self.own * MIB

    def catches(self, signal: int) -> bool:
        return signal in self.handlers

    def is_waiting(self) -> bool:
        return self.waiting

    def send(self, signal: int) -> None:
        self.done.append({SIGURG: "SIGURG", SIGINT: "SIGINT"}[signal])

    def libraries(self) -> frozenset[str]:
        return self.mapped

    def bound_data(self, soft: int) -> int:
        before, self.soft = self.soft, soft
        self.done.append(f"bound {soft // MIB}")
        return before

    def restore_data(self, before: int, value: int) -> None:
        if self.soft == value:
            self.soft = before
            self.done.append("restored")


class Scene:
    """A stopper that watches a run with a limit of 1000 MiB, which is stopped at 900."""

    def __init__(self, read: Callable[[str], str] = lambda path: "", **changes: int | str) -> None:
        self.orders = StopOrders(bytearray(SIZE))
        self.kernel = FakeKernel()
        self.now = 100.0
        self.children = 0
        self.rss: int | None = None
        self.paused = self.do_nothing
        self.stopper = Stopper(self.orders, self.kernel, read, lambda seconds: self.paused())
        self.allow(**changes)

    @staticmethod
    def do_nothing() -> None:
        pass

    def allow(self, run: int = 1, kind: str = "own", stop: int = 900, grown_from: int = 200, limit: int = 1000) -> None:
        levels: Levels = (StopOrders.KINDS.index(kind), stop * MIB, 800 * MIB, 700 * MIB, grown_from * MIB, limit * MIB)
        self.orders.allow(run, SIGURG, levels, None)

    def tick(self, own: int | None = None, after: float = 0.01) -> list[object]:
        """What is done at the next look, at this level."""
        self.now += after
        self.kernel.own = own if own is not None else self.kernel.own
        self.kernel.done.clear()
        rss = self.kernel.own if self.rss is None else self.rss
        pages = tuple(size * MIB // PAGE for size in (5000, rss, 0, 0, 0, self.kernel.data, 0))
        self.wait_s = self.stopper.tick(self.now, pages, self.children * MIB)
        return list(self.kernel.done)

    def hear(self) -> tuple[int, int]:
        """What the kernel's handler takes: words and force."""
        words, force, _ = self.orders.take(1)
        return words, force


def test_a_run_is_warned_then_cleaned_then_stopped_each_once():
    scene = Scene()
    assert [scene.tick(level) for level in (500, 699)] == [[], []]
    assert scene.tick(701) == ["SIGURG"]
    assert scene.hear() == (StopOrders.WARN, 0)
    assert scene.tick(750) == []
    assert scene.tick(801) == ["SIGURG"]
    assert scene.hear() == (StopOrders.WARN | StopOrders.CLEAN, 0)
    assert scene.tick(899) == []
    assert scene.tick(901) == ["SIGURG"]
    assert scene.hear()[1] == 1
    assert scene.hear()[1] == 0


def test_what_was_found_goes_with_the_order():
    scene = Scene()
    scene.children = 350
    scene.tick(600)
    assert scene.orders.take(1)[2] == (0, 950 * MIB, 950 * MIB, 350 * MIB)


def test_a_run_that_did_not_grow_is_left_alone_however_full_memory_is():
    scene = Scene(grown_from=960)
    assert scene.tick(950) == []
    assert scene.tick(961) != []


def test_pages_of_mapped_files_do_not_count():
    scene = Scene()
    scene.rss = 2000
    assert scene.tick(400) == []


@pytest.mark.parametrize(("level", "wait_s"), [(100, 0.05), (700, 0.0244), (800, 0.0122), (890, 0.01), (990, 0.01)])
def test_it_looks_more_often_the_nearer_the_limit_is(level, wait_s):
    scene = Scene()
    scene.tick(level)
    assert scene.wait_s == pytest.approx(wait_s, rel=0.01)


def test_without_an_order_nothing_is_done():
    scene = Scene()
    scene.orders.forbid()
    assert scene.tick(5000) == []
    assert scene.wait_s == stopper.LONGEST_S


def test_a_run_that_ends_while_it_is_about_to_fire_gets_no_signal():
    scene = Scene()
    scene.paused = scene.orders.forbid
    assert scene.tick(950) == []
    assert scene.orders.state()[0] == 0


def test_while_it_fires_the_kernel_can_see_it():
    scene, seen = Scene(), []
    scene.paused = lambda: seen.append(scene.orders.state()[0])
    scene.tick(950)
    assert set(seen) == {1}
    assert scene.orders.state()[0] == 0


# What follows if the first signal does not help


def stopped(**changes: int | str) -> Scene:
    scene = Scene(**changes)
    scene.tick(901)
    return scene


def test_a_main_thread_that_waits_gets_ctrl_c_too():
    scene = stopped()
    scene.kernel.waiting = True
    assert scene.tick(902, after=0.04) == []
    assert scene.tick(903, after=0.02) == ["SIGINT"]
    assert scene.tick(904, after=0.02) == []
    assert scene.tick(904, after=0.5)[0] == "SIGINT"


def test_one_that_begins_to_wait_only_later_gets_it_then():
    scene = stopped(limit=5000)
    assert scene.tick(902, after=0.1) == []
    scene.kernel.waiting = True
    assert scene.tick(903) == ["SIGINT"]


def test_one_that_computes_gets_ctrl_c_only_if_a_library_listens_to_it():
    scene = stopped()
    assert scene.tick(902, after=0.1) == []
    scene = Scene()
    scene.kernel.mapped = frozenset({"libarrow.so.2600"})
    scene.tick(901)
    assert scene.tick(902, after=0.1) == ["SIGINT"]


def test_after_a_while_allocations_are_refused_and_then_again_allowed():
    scene = stopped(limit=2000)
    assert scene.tick(910, after=0.19) == []
    assert scene.tick(911, after=0.02) == ["bound 437"]
    scene.hear()
    scene.orders.forbid()
    assert scene.tick(911) == ["restored"]
    assert scene.orders.bound() is None


def test_sooner_if_half_of_the_room_is_gone():
    scene = stopped()
    assert scene.tick(945) == []
    assert scene.tick(955) == ["bound 332"]


def test_never_with_polars_which_would_abort():
    scene = Scene()
    scene.kernel.mapped = frozenset({"_polars_runtime.abi3.so"})
    scene.tick(901)
    assert "SIGINT" in scene.tick(990, after=0.1)
    assert [scene.tick(990 + n, after=0.1) for n in range(5)] == [[]] * 5


def test_not_while_a_library_is_being_imported():
    scene = stopped()
    scene.kernel.mapped |= {"libtorch_cpu.so"}
    assert scene.tick(990, after=0.3) == []
    assert scene.tick(991, after=0.1) == []
    assert scene.tick(992, after=0.2) == ["bound 332"]


def test_code_that_swallows_the_error_and_goes_on_is_told_again_with_more_force():
    scene = stopped()
    assert scene.hear()[1] == 1
    assert scene.tick(910, after=0.1) == []
    assert scene.tick(920, after=0.1) == ["SIGURG"]
    assert scene.hear()[1] == 2
    assert scene.tick(940, after=0.1)[-1] == "SIGURG"
    assert scene.hear()[1] == 3


def test_code_that_has_heard_and_cleans_up_is_left_in_peace():
    scene = stopped()
    scene.hear()
    assert [scene.tick(915, after=0.5) for _ in range(5)] == [[]] * 5


def test_once_there_is_room_again_it_begins_gently():
    scene = stopped()
    scene.hear()
    scene.tick(950, after=0.1)
    assert scene.hear()[1] == 2
    scene.tick(500)
    assert scene.orders.bound() is None
    assert scene.tick(905) == ["SIGURG"]
    assert scene.hear()[1] == 1


def test_a_process_that_is_stuck_at_its_bound_gets_air_but_not_for_ever():
    scene = stopped()
    scene.tick(990, after=0.3)
    assert scene.kernel.soft == 332 * MIB
    scene.kernel.data = 332
    given = []
    for _ in range(20):
        given += [done for done in scene.tick(991, after=0.4) if str(done).startswith("bound")]
        scene.kernel.data = scene.kernel.soft // MIB
    assert given == [f"bound {332 + 32 * n}" for n in range(1, 9)]


def test_without_a_handler_the_signal_is_not_sent():
    scene = Scene()
    scene.kernel.handlers = set()
    assert scene.tick(990) == []
    scene.kernel.handlers = {SIGINT}
    scene = Scene()
    scene.kernel.handlers = {SIGINT}
    assert scene.tick(990) == ["SIGINT"]


# Other kinds of limits


def test_a_control_group_counts_without_what_can_be_dropped():
    files = {"/usage": f"{950 * MIB}\n", "/stat": f"cache 1\ninactive_file {100 * MIB}\n"}
    scene = Scene(read=lambda path: files.get(path, ""), kind="group")
    scene.orders.read_from("/usage", "/stat", "inactive_file")
    scene.tick(600)
    assert scene.hear() == (StopOrders.CLEAN, 0)
    files["/usage"] = f"{1020 * MIB}"
    scene.tick(601)
    assert scene.hear()[1] == 1


def test_others_that_fill_the_group_stop_nobody_here():
    scene = Scene(read=lambda path: f"{990 * MIB}", kind="group")
    assert scene.tick(150) == []


@pytest.mark.parametrize(("swap_free", "force"), [(4, 0), (0, 1)])
def test_a_host_is_deadly_only_without_swap(swap_free, force):
    memory = f"MemTotal: {1000 * 1024} kB\nMemAvailable: 50000 kB\nSwapTotal: {8 * GIB >> 10} kB\n"
    memory += f"SwapFree: {swap_free * GIB >> 10} kB\n"
    scene = Scene(read=lambda path: memory, kind="host")
    scene.tick(600)
    assert scene.hear()[1] == force


@pytest.mark.parametrize(("kind", "level"), [("address", 5000), ("data", 300)])
def test_resource_limits_are_compared_with_what_they_bound(kind, level):
    scene = Scene(kind=kind)
    scene.kernel.data = level
    scene.tick(600)
    assert (scene.hear()[1] == 1) == (level > 900)


def test_the_limit_of_a_run_of_its_own_is_told_apart():
    scene = Scene()
    scene.orders.forbid()
    own: Levels = (0, 500 * MIB, 400 * MIB, 350 * MIB, 200 * MIB, 500 * MIB)
    scene.orders.allow(2, SIGURG, (0, 900 * MIB, 800 * MIB, 700 * MIB, 200 * MIB, 1000 * MIB), own)
    scene.tick(510)
    assert scene.orders.take(2)[1:] == (1, (1, 510 * MIB, 510 * MIB, 0))


def test_words_of_an_earlier_run_are_not_taken_for_a_later_one():
    scene = Scene()
    scene.tick(701)
    scene.orders.forbid()
    scene.allow(run=2)
    assert scene.orders.take(2)[0] == 0
