"""The marker: one variable of the environment by which the processes that a session started are known.

Whatever a cell starts inherits it, also what leaves the process tree by a double fork. It names the kernel by pid,
start and boot, so that it tells a living kernel from a dead one without any file, and a pid that is used again from
the one that was meant.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from memcell.protect import processes

NAME = "MEMCELL_SESSION"


@dataclass(frozen=True, slots=True)
class SessionId:
    """Who started a process: the kernel's pid, when it was started (``processes.Process.birth``), and the boot."""

    pid: int
    birth: int
    boot: str

    def __str__(self) -> str:
        return f"{self.pid}-{self.birth}-{self.boot}"

    @classmethod
    def parse(cls, text: str) -> SessionId | None:
        """Read a marker; None for what is none."""
        pid, _, rest = text.partition("-")
        birth, _, boot = rest.partition("-")
        if not (boot and all(part.isascii() and part.isdecimal() for part in (pid, birth))):
            return None
        return cls(int(pid), int(birth), boot)

    @classmethod
    def own(cls) -> SessionId:
        """That of this process."""
        process = processes.read_process(os.getpid())
        return cls(os.getpid(), process.birth if process else 0, processes.boot_id())

    def is_dead(self) -> bool:
        """Whether the kernel has ended. Of another boot nothing is known here, so that is no."""
        process = processes.read_process(self.pid)
        is_gone = process is None or process.has_ended or process.birth != self.birth
        return is_gone and self.boot == processes.boot_id()


@dataclass(frozen=True, slots=True)
class Origin:
    """A kernel, and what its children inherit from it: by what they do not share with it they were detached.

    Attributes:
        id: The kernel.
        session: The process that leads its session: the kernel itself where Jupyter started it.
        ignores_hangup: Whether the kernel itself ignores SIGHUP, as under ``nohup jupyter lab``.
    """

    id: SessionId
    session: int
    ignores_hangup: bool = False

    @classmethod
    def own(cls) -> Origin:
        """This process."""
        session = os.getsid(0) if hasattr(os, "getsid") else 0
        return cls(SessionId.own(), session, processes.ignores_hangup(os.getpid()))

    @property
    def leads_session(self) -> bool:
        """Whether the session is its own: then whatever is in that session was started by it."""
        return self.session == self.id.pid


def put(identity: SessionId) -> None:
    """Mark what this process starts from now on, in place of any marker that it inherited."""
    os.environ[NAME] = str(identity)


def take_away() -> None:
    """Mark no more. May be called twice."""
    os.environ.pop(NAME, None)


def of_process(pid: int) -> SessionId | None:
    """The session by which a process, or one above it, was started; None without a marker."""
    text = processes.environment_value(pid, NAME)
    return SessionId.parse(text) if text is not None else None
