from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from memcell.errors import InvalidSizeError
from memcell.measure import limits
from memcell.measure.limits import LimitReader
from memcell.records.measured import Limit
from memcell.units import GIB, MIB

HOST_TOTAL, HOST_USED = 64 * GIB, 5 * GIB
OWN_RSS, OWN_VMS, OWN_DATA = 1 * GIB, 7 * GIB, 3 * GIB
V1_UNLIMITED = (1 << 63) - 4096


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A host, a process and resource limits whose figures a test knows and may change."""
    figures = SimpleNamespace(rlimits={}, host=SimpleNamespace(total=HOST_TOTAL, available=HOST_TOTAL - HOST_USED))
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=OWN_RSS, vms=OWN_VMS, data=OWN_DATA))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: figures.host)
    monkeypatch.setattr(psutil, "Process", lambda: process)
    monkeypatch.setattr(resource, "getrlimit", lambda code: figures.rlimits.get(code, (resource.RLIM_INFINITY,) * 2))
    return figures


class FakeSystem:
    """A /proc and mounted hierarchies of control groups below a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proc = folder / "proc"
        self.self_folder = self.proc / "self"
        self.self_folder.mkdir(parents=True)
        self.memberships("")
        self._mounts = [f"21 27 0:20 / {self.proc} rw,relatime - proc proc rw"]

    def memberships(self, *lines: str) -> None:
        (self.self_folder / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def mount(self, name: str, kind: str, options: str = "rw", root: str = "/", optional: str = "") -> Path:
        point = self.folder / name
        point.mkdir(parents=True, exist_ok=True)
        escaped = str(point).replace("\\", r"\134").replace(" ", r"\040")
        self._mounts.append(f"35 31 0:32 {root} {escaped} rw,nosuid {optional}- {kind} {kind} {options}")
        (self.self_folder / "mountinfo").write_text("".join(f"{line}\n" for line in self._mounts))
        return point

    def mount_v1(self, root: str = "/", name: str = "cgroup/memory") -> Path:
        return self.mount(name, "cgroup", "rw,memory", root)

    def mount_v2(self, root: str = "/", name: str = "cgroup") -> Path:
        return self.mount(name, "cgroup2", root=root)

    def read(self, setting: int | str = "auto", **environ: str) -> Limit:
        return LimitReader(setting, environ=environ, proc=self.proc).read()


@pytest.fixture
def system(tmp_path: Path, machine: SimpleNamespace) -> FakeSystem:
    return FakeSystem(tmp_path)


def v1_group(
    directory: Path,
    limit: int,
    hierarchical: int | None = None,
    usage: int = 0,
    inactive: int = 0,
    own_inactive: int = 0,
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (directory / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (directory / "memory.stat").write_text(
        f"cache {inactive}\ninactive_file {own_inactive}\n"
        f"hierarchical_memory_limit {limit if hierarchical is None else hierarchical}\ntotal_inactive_file {inactive}\n"
    )


def v2_group(directory: Path, limit: int | str, usage: int = 0, inactive: int = 0, high: int | str = "max") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.high").write_text(f"{high}\n")
    (directory / "memory.current").write_text(f"{usage}\n")
    (directory / "memory.stat").write_text(f"anon {usage - inactive}\nfile {inactive}\ninactive_file {inactive}\n")


class TestControlGroupsV1:
    def test_the_page_cache_of_the_whole_group_is_not_used(self, system: FakeSystem) -> None:
        v1_group(system.mount_v1() / "job", 4 * GIB, usage=3 * GIB, inactive=2 * GIB, own_inactive=MIB)
        system.memberships("5:cpu,cpuacct:/other", "4:memory:/job", "0::/")
        assert system.read() == Limit(4 * GIB, 1 * GIB, "cgroup v1 /job")

    def test_a_lower_parent_wins(self, system: FakeSystem) -> None:
        mount = system.mount_v1()
        v1_group(mount, V1_UNLIMITED, usage=9 * GIB)
        v1_group(mount / "slice", 2 * GIB, usage=1 * GIB)
        v1_group(mount / "slice" / "job", 8 * GIB, hierarchical=2 * GIB, usage=300 * MIB)
        system.memberships("4:memory:/slice/job")
        assert system.read() == Limit(2 * GIB, 1 * GIB, "cgroup v1 /slice")

    def test_an_ancestor_outside_the_mount_is_told_by_the_topmost_group(self, system: FakeSystem) -> None:
        mount = system.mount_v1(root="/docker/abc")
        v1_group(mount, 8 * GIB, hierarchical=3 * GIB, usage=2 * GIB)
        v1_group(mount / "job", V1_UNLIMITED, hierarchical=3 * GIB, usage=1 * GIB)
        system.memberships("4:memory:/docker/abc/job")
        assert system.read() == Limit(3 * GIB, 2 * GIB, "cgroup v1 /docker/abc")

    def test_without_statistics_the_limit_file_counts(self, system: FakeSystem) -> None:
        mount = system.mount_v1()
        v1_group(mount, 4 * GIB, usage=1 * GIB)
        (mount / "memory.stat").unlink()
        system.memberships("4:memory:/")
        assert system.read() == Limit(4 * GIB, 1 * GIB, "cgroup v1 /")

    @pytest.mark.parametrize("unlimited", [V1_UNLIMITED, 1 << 62])
    def test_a_huge_number_is_no_limit(self, system: FakeSystem, machine: SimpleNamespace, unlimited: int) -> None:
        machine.host.total = 1 << 63  # so that no limit could hide behind the host
        v1_group(system.mount_v1(), unlimited)
        system.memberships("4:memory:/")
        assert system.read() == Limit(None, None, "unknown")

    def test_controllers_are_compared_by_whole_name(self, system: FakeSystem) -> None:
        v1_group(system.mount("cgroup/x", "cgroup", "rw,memoryless"), 1 * GIB)
        system.memberships("4:memory:/", "5:memoryless:/")
        assert system.read().source == "the machine"


class TestControlGroupsV2:
    def test_a_lower_parent_wins(self, system: FakeSystem) -> None:
        mount = system.mount_v2()
        v2_group(mount / "slice", 2 * GIB, usage=1 * GIB, inactive=400 * MIB)
        v2_group(mount / "slice" / "job", "max", usage=300 * MIB)
        v2_group(mount / "slice" / "job" / "leaf", 8 * GIB, usage=200 * MIB)
        system.memberships("0::/slice/job/leaf")
        assert system.read() == Limit(2 * GIB, 1 * GIB - 400 * MIB, "cgroup v2 /slice")

    def test_a_lower_child_wins(self, system: FakeSystem) -> None:
        mount = system.mount_v2()
        v2_group(mount / "slice", 8 * GIB, usage=3 * GIB)
        v2_group(mount / "slice" / "job", 2 * GIB, usage=1 * GIB)
        system.memberships("0::/slice/job")
        assert system.read() == Limit(2 * GIB, 1 * GIB, "cgroup v2 /slice/job")

    def test_of_equal_limits_the_wider_group_counts(self, system: FakeSystem) -> None:
        mount = system.mount_v2()
        v2_group(mount / "pod", 2 * GIB, usage=2 * GIB)
        v2_group(mount / "pod" / "container", 2 * GIB, usage=1 * GIB)
        system.memberships("0::/pod/container")
        assert system.read() == Limit(2 * GIB, 2 * GIB, "cgroup v2 /pod")

    def test_in_a_namespace_the_mount_is_the_group(self, system: FakeSystem) -> None:
        v2_group(system.mount_v2(), 2 * GIB, usage=1 * GIB)
        system.memberships("0::/")
        assert system.read() == Limit(2 * GIB, 1 * GIB, "cgroup v2 /")

    @pytest.mark.parametrize("path", ["/../sibling", "/elsewhere/abc", "/docker/abcdef"])
    def test_a_group_that_is_not_mounted_here_falls_back_to_the_top_of_the_mount(
        self, system: FakeSystem, path: str
    ) -> None:
        v2_group(system.mount_v2(root="/docker/abc"), 2 * GIB, usage=1 * GIB)
        system.memberships(f"0::{path}")
        assert system.read() == Limit(2 * GIB, 1 * GIB, "cgroup v2 /docker/abc")

    def test_a_path_never_leads_out_of_the_mount(self, system: FakeSystem) -> None:
        v2_group(system.mount_v2(), 4 * GIB)
        v2_group(system.folder / "sibling", 1 * GIB)
        system.memberships("0::/../sibling")
        assert system.read().limit_bytes == 4 * GIB

    def test_of_several_mounts_the_one_from_furthest_up_is_taken(self, system: FakeSystem) -> None:
        v2_group(system.mount_v2(root="/slice/job", name="bound"), 4 * GIB)
        mount = system.mount_v2()
        v2_group(mount / "slice", 2 * GIB)
        v2_group(mount / "slice" / "job", 4 * GIB)
        system.memberships("0::/slice/job")
        assert system.read().source == "cgroup v2 /slice"

    def test_being_throttled_is_no_limit(self, system: FakeSystem) -> None:
        v2_group(system.mount_v2() / "job", 4 * GIB, high=1 * GIB)
        system.memberships("0::/job")
        assert system.read().limit_bytes == 4 * GIB

    def test_the_limit_is_read_each_time(self, system: FakeSystem) -> None:
        group = system.mount_v2() / "job"
        v2_group(group, 4 * GIB, usage=1 * GIB)
        system.memberships("0::/job")
        reader = LimitReader(environ={}, proc=system.proc)
        assert reader.read().limit_bytes == 4 * GIB
        v2_group(group, 6 * GIB, usage=2 * GIB)
        assert reader.read() == Limit(6 * GIB, 2 * GIB, "cgroup v2 /job")

    def test_a_mount_point_may_have_spaces_and_optional_fields(self, system: FakeSystem) -> None:
        v2_group(system.mount(r"my cgroups \x", "cgroup2", optional="shared:9 master:1 ") / "job", 2 * GIB)
        system.memberships("0::/job")
        assert system.read().limit_bytes == 2 * GIB

    def test_more_page_cache_than_usage_is_nothing_used(self, system: FakeSystem) -> None:
        v2_group(system.mount_v2() / "job", 2 * GIB, usage=MIB, inactive=2 * MIB)
        system.memberships("0::/job")
        assert system.read().used_bytes == 0


class TestHybridAndMissing:
    def test_hybrid_takes_the_hierarchy_that_has_the_memory_controller(self, system: FakeSystem) -> None:
        (system.mount_v2(name="cgroup/unified") / "job").mkdir()
        v1_group(system.mount_v1() / "job", 2 * GIB, usage=1 * GIB)
        system.memberships("4:memory:/job", "1:name=systemd:/job", "0::/job")
        assert system.read() == Limit(2 * GIB, 1 * GIB, "cgroup v1 /job")

    def test_a_level_that_is_missing_is_left_out(self, system: FakeSystem) -> None:
        v2_group(system.mount_v2() / "slice", 2 * GIB, usage=1 * GIB)
        system.memberships("0::/slice/hidden/job")
        assert system.read() == Limit(2 * GIB, 1 * GIB, "cgroup v2 /slice")

    def test_a_level_that_vanishes_later_is_left_out(self, system: FakeSystem) -> None:
        group = system.mount_v2() / "job"
        v2_group(group, 2 * GIB)
        system.memberships("0::/job")
        reader = LimitReader(environ={}, proc=system.proc)
        assert reader.read().source == "cgroup v2 /job"
        for file in group.iterdir():
            file.unlink()
        assert reader.read() == Limit(HOST_TOTAL, HOST_USED, "the machine")

    def test_without_usage_the_limit_is_still_told(self, system: FakeSystem) -> None:
        group = system.mount_v2() / "job"
        v2_group(group, 2 * GIB)
        (group / "memory.current").unlink()
        system.memberships("0::/job")
        assert system.read() == Limit(2 * GIB, None, "cgroup v2 /job")

    def test_a_group_above_the_host_is_no_limit(self, system: FakeSystem) -> None:
        v2_group(system.mount_v2() / "job", 2 * HOST_TOTAL)
        system.memberships("0::/job")
        assert system.read() == Limit(HOST_TOTAL, HOST_USED, "the machine")

    def test_without_proc_the_host_counts(self, tmp_path: Path, machine: SimpleNamespace) -> None:
        assert LimitReader(environ={}, proc=tmp_path / "none").read() == Limit(HOST_TOTAL, HOST_USED, "the machine")

    def test_garbage_in_proc_is_passed_over(self, system: FakeSystem) -> None:
        system.memberships("", "no colons", "1:two", "4:memory:/job")
        (system.self_folder / "mountinfo").write_bytes(b"\xff\xfe - cgroup2\n\n1 2 3 - \n - \n")
        assert system.read().source == "the machine"

    def test_where_nothing_tells_the_limit_is_unknown(
        self, system: FakeSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise FileNotFoundError("/proc/meminfo")

        monkeypatch.setattr(psutil, "virtual_memory", refuse)
        assert system.read() == Limit(None, None, "unknown")


class TestOtherBounds:
    def test_mem_limit_counts_against_the_resident_memory(self, system: FakeSystem) -> None:
        assert system.read(MEM_LIMIT="2147483648") == Limit(2 * GIB, OWN_RSS, "MEM_LIMIT")

    def test_a_group_with_the_same_limit_tells_more_than_mem_limit(self, system: FakeSystem) -> None:
        v2_group(system.mount_v2(), 2 * GIB, usage=1536 * MIB)
        system.memberships("0::/")
        assert system.read(MEM_LIMIT="2GiB") == Limit(2 * GIB, 1536 * MIB, "cgroup v2 /")

    @pytest.mark.parametrize("text", ["lots", "0", "-1", "12XB"])
    def test_an_unreadable_mem_limit_is_ignored_and_named_once(
        self, system: FakeSystem, caplog: pytest.LogCaptureFixture, text: str
    ) -> None:
        with caplog.at_level(logging.WARNING, logger="memcell"):
            reader = LimitReader(environ={"MEM_LIMIT": text}, proc=system.proc)
            assert reader.read() == reader.read() == Limit(HOST_TOTAL, HOST_USED, "the machine")
        [record] = caplog.records
        assert record.name == "memcell"
        assert "MEM_LIMIT" in record.getMessage()
        assert repr(text) in record.getMessage()

    def test_an_empty_mem_limit_is_none(self, system: FakeSystem, caplog: pytest.LogCaptureFixture) -> None:
        assert system.read(MEM_LIMIT=" ").source == "the machine"
        assert not caplog.records

    def test_the_environment_of_the_process_is_the_default(
        self, system: FakeSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MEM_LIMIT", "3GiB")
        assert LimitReader(proc=system.proc).read() == Limit(3 * GIB, OWN_RSS, "MEM_LIMIT")

    @pytest.mark.parametrize("setting", [2 * GIB, "2GiB"])
    def test_a_lower_setting_wins(self, system: FakeSystem, setting: int | str) -> None:
        assert system.read(setting, MEM_LIMIT="4GiB") == Limit(2 * GIB, OWN_RSS, "%memlimit")

    def test_a_setting_above_a_hard_limit_changes_nothing(self, system: FakeSystem) -> None:
        assert system.read("200GiB") == Limit(HOST_TOTAL, HOST_USED, "the machine")

    def test_off_is_no_limit_whatever_else_there_is(self, system: FakeSystem) -> None:
        assert system.read("off", MEM_LIMIT="1GiB") == Limit(None, None, "off")

    def test_a_setting_that_is_no_size_is_refused(self, system: FakeSystem) -> None:
        with pytest.raises(InvalidSizeError, match="12XB"):
            system.read("12XB")

    def test_the_address_space_counts_against_its_limit(self, system: FakeSystem, machine: SimpleNamespace) -> None:
        machine.rlimits[resource.RLIMIT_AS] = (8 * GIB, resource.RLIM_INFINITY)
        assert system.read() == Limit(8 * GIB, OWN_VMS, "RLIMIT_AS")

    def test_private_writable_memory_counts_against_its_limit(
        self, system: FakeSystem, machine: SimpleNamespace
    ) -> None:
        machine.rlimits[resource.RLIMIT_DATA] = (4 * GIB, 5 * GIB)
        assert system.read() == Limit(4 * GIB, OWN_DATA, "RLIMIT_DATA")


class TestThisMachine:
    def test_a_limit_is_found_and_something_is_used(self) -> None:
        limit = LimitReader().read()
        assert limit.limit_bytes is not None
        assert 0 < limit.limit_bytes <= psutil.virtual_memory().total
        assert limit.used_bytes is not None
        assert limit.used_bytes > 0

    def test_page_cache_is_not_used_memory(self, tmp_path: Path) -> None:
        held, cached, allowed = 64 * MIB, 150 * MIB, 256 * MIB
        with a_real_group(allowed) as group:
            package_folder = Path(limits.__file__).parents[2]
            child = subprocess.run(
                [sys.executable, "-c", CHILD, str(group), str(tmp_path / "file"), str(held), str(cached)],
                env={**os.environ, "PYTHONPATH": str(package_folder), "MEM_LIMIT": ""},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        assert child.returncode == 0, child.stderr
        told = json.loads(child.stdout)
        if told["usage"] < held + cached:
            pytest.skip("pages of files under the temporary folder are not charged as page cache (a tmpfs?)")
        assert told["limit"] == allowed
        assert told["source"].endswith(f"/{group.name}")
        # Beside what it holds, the child is an interpreter with psutil: far from the 150 MiB of the file.
        assert held <= told["used"] < held + cached / 2


CHILD = """
import json, os, sys
from pathlib import Path

group, path, held, cached = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
(group / "cgroup.procs").write_text(str(os.getpid()))
kept = bytes(bytearray(b"x") * held)
with open(path, "wb") as file:
    for _ in range(cached >> 20):
        file.write(b"y" * (1 << 20))
    file.flush()
    os.fsync(file.fileno())
with open(path, "rb") as file:
    while file.read(1 << 20):
        pass

from memcell.measure.limits import LimitReader

limit = LimitReader().read()
usage = next(group / name for name in ("memory.current", "memory.usage_in_bytes") if (group / name).exists())
print(json.dumps({
    "limit": limit.limit_bytes, "used": limit.used_bytes, "source": limit.source, "usage": int(usage.read_text()),
}))
"""


@contextmanager
def a_real_group(limit: int) -> Iterator[Path]:
    """A control group with a limit, below the top of the hierarchy; the test is skipped where none can be made."""
    for top, limit_file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(top, f"memcell-test-{os.getpid()}")
        if not Path(top, "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit_file).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    pytest.skip("no memory control group can be made here: that needs root and a writable cgroup hierarchy")
