"""Sizes where there is no memory left to count them."""

from __future__ import annotations

from memcell.measure.rough_sizes import rough_sizes


class Bomb:
    def __sizeof__(self) -> int:
        raise AssertionError("asked")

    def __len__(self) -> int:
        raise AssertionError("asked")


class Rows(list):
    def __len__(self) -> int:
        raise AssertionError("asked")


def test_the_largest_come_first_with_what_their_elements_take():
    variables = {
        "small": 1,
        "rows": [bytes(1000) for _ in range(2000)],
        "table": {n: [bytes(100) for _ in range(10)] for n in range(1000)},
        "text": "x" * 500_000,
    }
    found = rough_sizes(variables, lambda value: None, 3)
    assert [size.name for size in found] == ["rows", "table", "text"]
    assert 2_000_000 < found[0].size_bytes < 2_200_000
    assert 1_000_000 < found[1].size_bytes < 1_700_000
    assert all(size.note == "estimated" for size in found)


def test_what_a_library_tells_counts():
    arrays = [object() for _ in range(4)]
    [found] = rough_sizes({"arrays": arrays}, lambda value: 100 if type(value) is object else None, 1)
    assert 400 <= found.size_bytes < 600


def test_an_object_that_a_list_holds_many_times_counts_once():
    [found] = rough_sizes({"zeros": [0] * 100_000}, lambda value: None, 1)
    assert 800_000 <= found.size_bytes < 801_000


def test_objects_that_could_run_code_are_not_asked():
    found = rough_sizes({"bomb": Bomb(), "rows": Rows([1]), "inside": [Bomb()], "empty": []}, lambda value: None, 4)
    assert {size.name: size.size_bytes for size in found}["bomb"] == 0
