"""Kernels of the newest IPython, which is the one of this environment, and of the oldest that memcell supports."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.kernel.environments import oldest_python
from tests.kernel.kernels import Kernel


@pytest.fixture(scope="session", params=["newest", "oldest"])
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter with memcell: from the checkout, and from the built wheel."""
    if request.param == "newest":
        return sys.executable
    return oldest_python(request.config.cache.mkdir("memcell-kernel"))


@pytest.fixture(scope="module")
def kernel(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel whose outputs are only collected, as nbclient starts it; memcell is loaded."""
    with Kernel(python, tmp_path_factory.mktemp("headless")) as kernel:
        assert kernel.run("%load_ext memcell").status == "ok"
        yield kernel


@pytest.fixture(scope="module")
def live_kernel(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel as a Jupyter server starts it; memcell is loaded."""
    with Kernel(python, tmp_path_factory.mktemp("live"), live=True) as kernel:
        assert kernel.run("%load_ext memcell").status == "ok"
        yield kernel
