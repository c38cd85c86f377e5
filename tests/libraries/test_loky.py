"""The worker processes that joblib and loky keep."""

from __future__ import annotations

import pytest

from tests.libraries.fresh import in_fresh_process


@pytest.mark.parametrize("name", ["joblib", "loky"])
def test_idle_workers_end_and_the_next_call_starts_others(name):
    workers, memory, results = in_fresh_process(
        f"""
        import math
        import joblib, loky
        if {name!r} == "joblib":
            def work():
                return joblib.Parallel(2)(joblib.delayed(math.sqrt)(i) for i in (4, 9))
        else:
            def work():
                return list(loky.get_reusable_executor(2).map(math.sqrt, (4, 9)))
        def workers():
            return [child for child in process.children(recursive=True) if "popen_loky" in " ".join(child.cmdline())]
        results = [work()]
        clean()
        counts = [len(workers())]
        memory = sum(worker.memory_info().rss for worker in workers())
        clean({name!r})
        counts.append(len(workers()))
        results.append(work())
        clean({name!r})
        counts.append(len(workers()))
        print(json.dumps([counts, memory, results]))
        """
    )
    assert workers == [2, 0, 0]
    assert memory >= 16 * 2**20
    assert results == [[2.0, 3.0], [2.0, 3.0]]


def test_no_executor_is_made_and_one_at_work_is_left_alone():
    made, error, result = in_fresh_process(
        """
        import time
        import loky
        clean("loky")
        made = len(process.children())
        executor = loky.get_reusable_executor(1)
        future = executor.submit(time.sleep, 2)
        (outcome,) = runner.clean(["loky"]).outcomes
        result = future.result()
        clean("loky")
        print(json.dumps([made, outcome.error, result]))
        """
    )
    assert made == 0
    assert "1 tasks are not done yet" in error
    assert "loky.get_reusable_executor().shutdown(kill_workers=True)" in error
    assert result is None
