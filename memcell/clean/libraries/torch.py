"""What PyTorch keeps: free blocks of the allocators of GPUs, and the functions that ``torch.compile`` compiled.

Tensors in the memory of the host come from malloc and have no pool, so for those "trim" is all there is.
"""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import Stage, library_cleaner


def release_pools(torch: ModuleType) -> None:
    """Return free blocks to the GPU. Initializes no device that the user has not used. Untested on a GPU."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available() and torch.mps.driver_allocated_memory():
        torch.mps.empty_cache()


def reset_compiler(dynamo: ModuleType) -> None:
    """Drop compiled graphs and their guards in memory; what Inductor keeps on disk stays.

    Measured for 60 functions of 100 operations each: 566,000 objects and 22 MiB of malloc's memory.
    """
    dynamo.reset()


POOLS = library_cleaner(
    "torch", "torch", release_pools, effect="none", stage=Stage.POOLS, about="free blocks in PyTorch's GPU allocators"
)
# Its own module is imported by the first torch.compile, not by torch.
COMPILED = library_cleaner(
    "torch-compile", "torch._dynamo", reset_compiler, effect="recompute", about="functions compiled by torch.compile"
)
