from __future__ import annotations

import pytest

from memcell.errors import InvalidSizeError, MemcellError
from memcell.units import GIB, MIB, format_bytes, format_duration, format_round, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        (1024, 1024),
        ("8GB", 8 * 10**9),
        ("8 gib", 8 * GIB),
        ("1.5G", 1_500_000_000),
        ("512Mi", 512 * MIB),
        ("2e3 kB", 2_000_000),
        (2**63 + 1, 2**63 + 1),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["12XB", "-1", "-5 GB", "0", "", "GB", "1 2 MB", "nan", "1e999", None, True, [1]])
def test_sizes_that_cannot_be_read_are_named_in_one_line(text):
    with pytest.raises(InvalidSizeError) as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, MemcellError)
    if isinstance(text, str):
        assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0.0 MiB"),
        (-10, "0.0 MiB"),
        (1023.96 * MIB, "1.00 GiB"),
        (-2.5 * GIB, "-2.50 GiB"),
        (300 * GIB, "300.0 GiB"),
    ],
)
def test_bytes_are_written(size, text):
    assert format_bytes(size) == text


def test_a_sign_is_written_where_it_is_asked_for():
    assert format_bytes(105.2 * MIB, sign=True) == "+105.2 MiB"
    assert format_bytes(0, sign=True) == "+0.0 MiB"


@pytest.mark.parametrize(("size", "text"), [(612 * MIB, "612 MiB"), (1023.6 * MIB, "1 GiB"), (251.7 * GIB, "252 GiB")])
def test_levels_are_written_without_decimals_that_say_nothing(size, text):
    assert format_round(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(59.996, "1 min 00 s"), (3599.9, "1 h 00 min"), (0, "0.0 ms")])
def test_durations_at_their_borders(seconds, text):
    assert format_duration(seconds) == text
