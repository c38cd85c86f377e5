"""Progress bars that were never finished."""

from __future__ import annotations

from tests.libraries.fresh import in_fresh_process


def test_unfinished_bars_are_closed_and_let_go_of_what_they_go_over():
    bars, freed, steps = in_fresh_process(
        """
        import io
        import tqdm
        def bar():
            return tqdm.tqdm([bytes(2048) for _ in range(50_000)], file=io.StringIO())
        kept = bar()
        going = tqdm.tqdm(range(3), file=io.StringIO())
        loop = iter(going)
        steps = [next(loop)]
        clean()
        bars = [len(tqdm.tqdm._instances)]
        freed = clean("tqdm")
        bars.append(len(tqdm.tqdm._instances))
        print(json.dumps([bars, freed["tqdm"], steps + list(loop)]))
        """
    )
    assert bars == [2, 0]
    assert freed >= 64 * 2**20
    assert steps == [0, 1, 2], "a loop that is going on goes on"
