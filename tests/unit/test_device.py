from __future__ import annotations

import logging
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from memcell.measure.device import DeviceGauge

LIBRARIES = ("torch", "cupy", "jax", "jax._src.xla_bridge", "pynvml")


@pytest.fixture(autouse=True)
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has imported none of them and has seen none of them fail."""
    for name in LIBRARIES:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def gauge() -> DeviceGauge:
    return DeviceGauge()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(name: str, library: Any) -> None:
        monkeypatch.setitem(sys.modules, name, library)

    return put


def must_not_be_called(*_: object) -> Any:
    raise AssertionError("this would initialise a device")


def torch(reserved: list[int] | None = None, metal: int | None = None) -> SimpleNamespace:
    """A torch with this much reserved on each CUDA device (None: CUDA is not initialised) or on Metal."""

    def statistics(index: int) -> dict[str, Any]:
        assert reserved is not None
        return {"allocated_bytes": {"all": {"current": 1}}, "reserved_bytes": {"all": {"current": reserved[index]}}}

    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_initialized=lambda: reserved is not None,
            device_count=must_not_be_called if reserved is None else lambda: len(reserved),
            memory_stats_as_nested_dict=must_not_be_called if reserved is None else statistics,
        ),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: metal is not None)),
        mps=SimpleNamespace(driver_allocated_memory=must_not_be_called if metal is None else lambda: metal),
    )


def cupy(pool: int = 0, context: int | None = 1) -> SimpleNamespace:
    """A cupy whose thread has a context (0: none; None: no driver is initialised) and whose pool has this much."""

    def current_context() -> int:
        if context is None:
            raise RuntimeError("CUDA_ERROR_NOT_INITIALIZED")
        return context

    return SimpleNamespace(
        cuda=SimpleNamespace(driver=SimpleNamespace(ctxGetCurrent=current_context)),
        get_default_memory_pool=lambda: SimpleNamespace(total_bytes=(lambda: pool) if context else must_not_be_called),
    )


def accelerator(stats: dict[str, int] | None, platform: str = "gpu") -> SimpleNamespace:
    return SimpleNamespace(platform=platform, memory_stats=lambda: stats)


def install_jax(install: Any, *devices: SimpleNamespace, initialised: bool = True) -> None:
    install("jax", SimpleNamespace(local_devices=(lambda: list(devices)) if initialised else must_not_be_called))
    install("jax._src.xla_bridge", SimpleNamespace(backends_are_initialized=lambda: initialised))


class UninitialisedError(Exception):
    pass


def nvml(*devices: list[tuple[int, int | None]], initialised: bool = True) -> SimpleNamespace:
    """An NVML with these processes, pid and bytes, on each device."""

    def count() -> int:
        if not initialised:
            raise UninitialisedError
        return len(devices)

    def processes(index: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in devices[index]]

    return SimpleNamespace(
        NVMLError_Uninitialized=UninitialisedError,
        nvmlDeviceGetCount=count,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetComputeRunningProcesses=processes,
    )


def test_without_a_library_nothing_is_told_and_nothing_imported(gauge: DeviceGauge) -> None:
    assert gauge.bytes_held() is None
    assert not set(LIBRARIES) & set(sys.modules)


def test_a_library_whose_import_is_forbidden_tells_nothing(gauge: DeviceGauge, install: Any) -> None:
    install("torch", None)
    assert gauge.bytes_held() is None


def test_torch_reserved_memory_is_summed_over_devices(gauge: DeviceGauge, install: Any) -> None:
    install("torch", torch(reserved=[100, 20]))
    assert gauge.bytes_held() == 120


def test_torch_that_holds_nothing_holds_zero(gauge: DeviceGauge, install: Any) -> None:
    install("torch", torch(reserved=[0]))
    assert gauge.bytes_held() == 0


def test_torch_without_cuda_in_use_is_not_initialised(gauge: DeviceGauge, install: Any) -> None:
    install("torch", torch())
    assert gauge.bytes_held() is None
    assert not gauge._failed


def test_torch_on_metal(gauge: DeviceGauge, install: Any) -> None:
    install("torch", torch(metal=300))
    assert gauge.bytes_held() == 300


def test_cupy_pool(gauge: DeviceGauge, install: Any) -> None:
    install("cupy", cupy(pool=500))
    assert gauge.bytes_held() == 500


@pytest.mark.parametrize("context", [0, None])
def test_cupy_without_a_context_is_not_initialised(gauge: DeviceGauge, install: Any, context: int | None) -> None:
    install("cupy", cupy(context=context))
    assert gauge.bytes_held() is None
    assert not gauge._failed


def test_jax_pools_are_summed_over_accelerators(gauge: DeviceGauge, install: Any) -> None:
    install_jax(
        install,
        accelerator({"bytes_in_use": 1, "pool_bytes": 700}),
        accelerator({"bytes_in_use": 50}),
        accelerator(None),
        accelerator({"bytes_in_use": 9999}, platform="cpu"),
    )
    assert gauge.bytes_held() == 750


def test_jax_on_cpus_tells_nothing(gauge: DeviceGauge, install: Any) -> None:
    install_jax(install, accelerator(None, platform="cpu"))
    assert gauge.bytes_held() is None


def test_jax_without_backends_is_not_initialised(gauge: DeviceGauge, install: Any) -> None:
    install_jax(install, initialised=False)
    assert gauge.bytes_held() is None
    assert not gauge._failed


def test_jax_without_its_private_module_tells_nothing(gauge: DeviceGauge, install: Any) -> None:
    install("jax", SimpleNamespace(local_devices=must_not_be_called))
    assert gauge.bytes_held() is None
    assert not gauge._failed


def test_libraries_are_added_up_and_nvml_is_not_asked(gauge: DeviceGauge, install: Any) -> None:
    install("torch", torch(reserved=[100]))
    install("cupy", cupy(pool=30))
    install_jax(install, accelerator({"pool_bytes": 4}))
    install("pynvml", nvml([(os.getpid(), 9999)]))
    assert gauge.bytes_held() == 134


def test_nvml_tells_what_this_process_uses_where_no_library_does(gauge: DeviceGauge, install: Any) -> None:
    install("torch", torch())
    install("pynvml", nvml([(os.getpid(), 40), (1, 9999)], [(os.getpid(), 2)], [(os.getpid(), None)]))
    assert gauge.bytes_held() == 42


@pytest.mark.parametrize("library", [nvml([(1, 9999)]), nvml(initialised=False)], ids=["other", "uninitialised"])
def test_nvml_that_does_not_know_this_process_tells_nothing(
    gauge: DeviceGauge, install: Any, library: SimpleNamespace
) -> None:
    install("pynvml", library)
    assert gauge.bytes_held() is None
    assert not gauge._failed


def test_a_failing_library_is_named_once_and_not_asked_again(
    gauge: DeviceGauge, install: Any, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def fail() -> bool:
        calls.append("torch")
        raise RuntimeError("CUDA driver went away")

    install("torch", SimpleNamespace(cuda=SimpleNamespace(is_initialized=fail)))
    install("cupy", cupy(pool=30))
    with caplog.at_level(logging.WARNING, logger="memcell"):
        assert gauge.bytes_held() == 30
        assert gauge.bytes_held() == 30
    assert calls == ["torch"]
    [record] = caplog.records
    assert record.name == "memcell"
    assert "torch" in record.getMessage()
    assert "CUDA driver went away" in record.getMessage()


def test_a_half_imported_library_is_asked_again_later(
    gauge: DeviceGauge, install: Any, caplog: pytest.LogCaptureFixture
) -> None:
    install("torch", SimpleNamespace())
    assert gauge.bytes_held() is None
    install("torch", torch(reserved=[100]))
    assert gauge.bytes_held() == 100
    assert not caplog.records
