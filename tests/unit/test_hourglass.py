from __future__ import annotations

import threading

from memcell.clean.hourglass import Hourglass


def test_a_cleaner_that_takes_long_is_named_once():
    told, heard = [], threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        heard.set()

    with Hourglass(0.05, tell) as hourglass:
        hourglass.turn("quick")
        hourglass.turn("slow")
        assert heard.wait(10)
        threading.Event().wait(0.2)
    assert told == ["the cleaner 'slow' has been running for 0.05 s; Ctrl-C skips it"]


def test_without_memory_for_a_thread_the_clean_up_goes_on(monkeypatch):
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with Hourglass() as hourglass:
        hourglass.turn("any")
