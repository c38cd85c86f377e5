"""What stands where a census was."""

from __future__ import annotations

from memcell.explain.ballast import Ballast
from memcell.units import MIB


class Level:
    """Resident memory, as it is set."""

    def __init__(self) -> None:
        self.bytes = 100 * MIB

    def __call__(self) -> int:
        return self.bytes


def held_bytes(ballast: Ballast) -> int:
    return sum(map(bytes.__sizeof__, ballast._held))


def test_as_much_is_held_as_the_body_took_and_nothing_meanwhile():
    level = Level()
    ballast = Ballast(level)
    with ballast.lifted():
        assert held_bytes(ballast) == 0
        level.bytes += 3 * MIB
    assert 2.9 * MIB < held_bytes(ballast) <= 3 * MIB
    with ballast.lifted():
        assert held_bytes(ballast) == 0
    assert 2.9 * MIB < held_bytes(ballast) <= 3 * MIB, "the next body may have found room that was free"


def test_what_is_held_is_bounded_and_survives_an_error():
    level = Level()
    ballast = Ballast(level)
    try:
        with ballast.lifted():
            level.bytes += 1000 * MIB
            raise ValueError
    except ValueError:
        pass
    assert held_bytes(ballast) <= 16 * MIB
    level.bytes -= 500 * MIB
    with ballast.lifted():
        level.bytes -= 100 * MIB
    assert held_bytes(ballast) <= 16 * MIB
