"""The GPU memory that this process holds, as the libraries tell that the user has imported.

No library is imported for it and no GPU is woken: a source that would have to initialise a device to answer says
nothing. "Held" is what a library has taken from the device, the free blocks of its own cache included, because that is
what other processes cannot have; so it falls when the cache is emptied, not when a tensor goes. What the drivers
themselves take for a context is not in it, except in NVML's figure.

Nothing here has been run on a GPU yet: each source follows the library's documentation or sources and is tried against
stand-ins, and against the real jax, cupy and pynvml on a machine without a GPU, where they say nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from types import ModuleType

logger = logging.getLogger("memcell")


class DeviceGauge:
    """Asks the libraries that are imported. One whose own call fails is named once in the log and not asked again."""

    def __init__(self) -> None:
        self._failed: set[str] = set()

    def bytes_held(self) -> int | None:
        """The GPU memory that this process holds, in bytes, on all devices together; None where nothing tells.

        Without such a library this costs a few look-ups in ``sys.modules``.
        """
        told = None
        for name, ask in _LIBRARIES.items():
            if name in sys.modules:
                held = self._ask(name, ask)
                if held is not None:
                    told = held if told is None else told + held
        # NVML knows of every library, and yet it comes last: it asks the driver, which takes far longer than reading an
        # allocator's counter, it counts contexts too, and in a container it may list the process under another pid.
        if told is None and "pynvml" in sys.modules:
            told = self._ask("pynvml", _held_by_nvml)
        return told

    def _ask(self, name: str, ask: Callable[[ModuleType], int | None]) -> int | None:
        library = sys.modules.get(name)
        if library is None or name in self._failed:  # an entry of None forbids the import of that library
            return None
        try:
            return ask(library)
        except AttributeError:
            # Another thread is still importing it, or this version has no such call: it says nothing, for now.
            return None
        except Exception as error:
            self._failed.add(name)
            logger.warning("GPU memory held by %s is not read any more: %s: %s", name, type(error).__name__, error)
            return None


def _held_by_torch(torch: ModuleType) -> int | None:
    """The memory reserved by the caching allocators: CUDA or ROCm, all devices; else Metal (MPS). Untested on a GPU."""
    if torch.cuda.is_initialized():
        # Not memory_reserved(), which for each device flattens and sorts all of these hundred figures to return one.
        return sum(
            int(torch.cuda.memory_stats_as_nested_dict(device)["reserved_bytes"]["all"]["current"])
            for device in range(torch.cuda.device_count())
        )
    if torch.backends.mps.is_available():
        return int(torch.mps.driver_allocated_memory())
    return None


def _held_by_cupy(cupy: ModuleType) -> int | None:
    """The default memory pool on the current device. Untested on a GPU.

    The pool tells of the current device only, and switching to another one could create a context there.
    """
    try:
        # Asking the pool makes the CUDA runtime initialise itself, after which forked children cannot use the GPU; this
        # asks without doing so.
        has_context = bool(cupy.cuda.driver.ctxGetCurrent())
    except RuntimeError:  # there is no driver (seen with cupy 14), or it is not initialised (CUDADriverError)
        return None
    return int(cupy.get_default_memory_pool().total_bytes()) if has_context else None


def _held_by_jax(jax: ModuleType) -> int | None:
    """The allocators' pools on all local devices but CPUs; untested on a GPU.

    XLA takes most of the GPU at once unless ``XLA_PYTHON_CLIENT_PREALLOCATE=false`` is set, and then this says so.
    """
    # All that is public, jax.local_devices() and jax.extend.backend included, initialises the backends when asked. This
    # function is private, and if it moves, jax says nothing here.
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is None or not bridge.backends_are_initialized():
        return None
    told = [device.memory_stats() for device in jax.local_devices() if device.platform != "cpu"]
    held = [int(stats.get("pool_bytes", stats.get("bytes_in_use", 0))) for stats in told if stats]
    return sum(held) if held else None


def _held_by_nvml(pynvml: ModuleType) -> int | None:
    """What the NVIDIA driver says that this process uses, if the user has initialised NVML. Untested on a GPU."""
    try:
        devices = range(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError_Uninitialized:
        return None
    pid = os.getpid()
    held = [
        int(process.usedGpuMemory)
        for device in devices
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(device))
        # Windows' display driver model manages the memory itself: the figure is None there.
        if process.pid == pid and process.usedGpuMemory is not None
    ]
    return sum(held) if held else None


_LIBRARIES = {"torch": _held_by_torch, "cupy": _held_by_cupy, "jax": _held_by_jax}
