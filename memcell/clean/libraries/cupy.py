"""The free blocks in the pools of CuPy: of the current GPU, and of the pinned memory of the host. Untested on a GPU."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import Stage, library_cleaner


def clear(cupy: ModuleType) -> None:
    """Return free blocks. Other GPUs are left out, since selecting one takes memory there."""
    if cupy.cuda.is_available():
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()


CLEANER = library_cleaner(
    "cupy",
    "cupy",
    clear,
    effect="none",
    stage=Stage.POOLS,
    about="free blocks in CuPy's pools of GPU and pinned memory",
)
