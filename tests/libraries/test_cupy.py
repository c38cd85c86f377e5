"""The cleaner "cupy" with a stand-in: the library needs a GPU to fill its pools."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from memcell.clean.libraries import cupy


@pytest.mark.parametrize(("has_gpu", "expected"), [(True, ["device", "pinned"]), (False, [])])
def test_pools_are_emptied_only_where_there_is_a_gpu(has_gpu, expected):
    emptied: list[str] = []

    def pool(name: str) -> SimpleNamespace:
        return SimpleNamespace(free_all_blocks=lambda: emptied.append(name))

    cupy.clear(
        SimpleNamespace(
            cuda=SimpleNamespace(is_available=lambda: has_gpu),
            get_default_memory_pool=lambda: pool("device"),
            get_default_pinned_memory_pool=lambda: pool("pinned"),
        )
    )
    assert emptied == expected
