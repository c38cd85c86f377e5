"""The service of ``docs/service`` as its readers run it: uvicorn, requests over loopback, and its resident memory."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from memcell.units import MIB

FOLDER = Path(__file__).parents[2] / "docs" / "service"
#: What the model takes: the file has 62 MiB, all of it the trees' nodes.
MODEL_MIB = 60
#: One answer in the cache: 400 × 400 numbers of 8 bytes.
ANSWER_MIB = 1.22
#: How far the level may be off: allocator, threads, the state of the garbage collection.
NOISE_MIB = 32
#: How much of the cache is filled before the clean-up has to come.
HEADROOM_MIB = 48
FIELDS = {
    "state",
    "rss_bytes",
    "limit_bytes",
    "percent",
    "growth_bytes_per_hour",
    "last_clean_s",
    "last_freed_bytes",
    "children",
}


@pytest.fixture(scope="module", autouse=True)
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The model, trained in a process of its own, in a folder of the test's."""
    file = tmp_path_factory.mktemp("service") / "prices.joblib"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_FILE", str(file))
        subprocess.run([sys.executable, FOLDER / "prices.py"], check=True, timeout=60)
        yield
    file.unlink()


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    """``docs/service/measure.py``, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("measure", FOLDER / "measure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wait_for_clean_up(service) -> dict[str, object]:
    """Ask for the health until it tells of a clean-up: the monitor looks once a second."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        health = service.get("/health")
        if health["last_clean_s"] is not None:
            return health
        time.sleep(0.1)
    pytest.fail("no clean-up within 15 s")


def test_a_model_per_request_grows_without_memcell(measure):
    with measure.Service("leaking") as service:
        service.appraise(0)
        before = service.rss_mib()
        for _ in range(4):
            service.appraise(0)
        assert service.rss_mib() - before > 4 * MODEL_MIB - NOISE_MIB


def test_it_stays_flat_with_one_shared_model(measure):
    with measure.Service("app") as service, ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(service.appraise, 4 * [0]))
        assert all(answer == answers[0] for answer in answers)
        before = service.rss_mib()
        list(clients.map(service.appraise, range(10)))
        assert abs(service.rss_mib() - before) < NOISE_MIB, "ten answers of 1.2 MiB and no further model"


def test_the_monitor_clears_the_cache_when_memory_runs_short(measure):
    with measure.Service("app") as service:
        service.appraise(0)
        level = service.rss_mib()
    clean_above = level + HEADROOM_MIB
    with measure.Service("app", MEM_LIMIT=f"{clean_above / 0.8:.0f}MiB") as service:
        for number in range(4 * round(HEADROOM_MIB / ANSWER_MIB)):
            service.appraise(number)
            if service.rss_mib() > clean_above + 2:
                break
        else:
            pytest.fail("the cache did not fill: it was cleared too early, or not kept")
        health = wait_for_clean_up(service)
        assert health["last_freed_bytes"] > (HEADROOM_MIB - NOISE_MIB / 2) * MIB
        assert service.rss_mib() < level + NOISE_MIB
    assert "Memory cleanup: Before=" in service.log


def test_health_tells_how_the_process_is(measure):
    with measure.Service("app", MEM_LIMIT="100GB") as service:
        health = service.get("/health")
        rss_bytes = service.rss_mib() * MIB
    assert set(health) >= FIELDS
    assert health["state"] == "healthy"
    assert health["limit_bytes"] <= 100 * 10**9
    assert 0 < health["percent"] < 70
    assert health["rss_bytes"] == pytest.approx(rss_bytes, rel=0.1)
    assert health["last_clean_s"] is None


def test_it_ends_when_it_is_told_to_and_leaves_no_process(measure):
    with measure.Service("app") as service:
        service.appraise(0)
        service.get("/health")
        children = psutil.Process(service.process.pid).children(recursive=True)
    assert "Application shutdown complete" in service.log
    assert "Traceback" not in service.log
    assert not psutil.pid_exists(service.process.pid)
    assert not [child for child in children if child.is_running()]
