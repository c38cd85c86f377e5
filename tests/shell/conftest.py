"""A fresh shell with memcell loaded, and the check that unloading leaves nothing of it."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from memcell.protect import children
from memcell.session import Session


def traces(shell: InteractiveShell) -> dict[str, Any]:
    """Everything of a shell to which an extension can add."""
    formatters = shell.display_formatter.formatters.items()
    return {
        "hooks": {event: list(hooks) for event, hooks in shell.events.callbacks.items()},
        "magics": {kind: set(names) for kind, names in shell.magics_manager.magics.items()},
        # Others are there too: IPython makes its own when they are first used.
        "magic classes": _of_memcell(shell.magics_manager.registry.values()),
        "transformers": [
            *shell.input_transformers_cleanup,
            *shell.input_transformers_post,
            *shell.input_transformer_manager.line_transforms,
            *shell.input_transformer_manager.token_transformers,
        ],
        "syntax tree transformers": list(shell.ast_transformers),
        "matchers": list(shell.Completer.custom_matchers),
        "configurables": _of_memcell(shell.configurables),
        "formatters": {name: set(formatter.type_printers) for name, formatter in formatters},
        "names": {name for name in shell.user_ns if name not in ("_", "__", "___", "_i", "_ii", "_iii", "_exit_code")},
    }


def _of_memcell(objects: Iterable[object]) -> list[type]:
    return [kind for kind in map(type, objects) if kind.__module__.startswith("memcell")]


def _left(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {what: after[what] for what in before if what != "names" and after[what] != before[what]}


@pytest.fixture
def make_shell() -> Iterator[Callable[..., InteractiveShell]]:
    """Makes a fresh shell, which is what ``get_ipython()`` returns until the end of the test."""

    made: list[InteractiveShell] = []

    def make(config: Config | None = None) -> InteractiveShell:
        config = config or Config()
        config.HistoryManager.enabled = False  # no file
        config.InteractiveShell.colors = "nocolor"
        made.append(InteractiveShell.instance(config=config))
        return made[-1]

    yield make
    InteractiveShell.clear_instance()
    for shell in made:  # which IPython keeps to the end of the process, with the variables of the test
        shell.atexit_operations()
        atexit.unregister(shell.atexit_operations)
        shell.user_ns.clear()


@pytest.fixture
def bare_shell(make_shell: Callable[..., InteractiveShell]) -> InteractiveShell:
    """A fresh shell without memcell."""
    return make_shell()


@pytest.fixture
def shell(
    bare_shell: InteractiveShell, session: Session, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InteractiveShell]:
    """A fresh shell with memcell loaded on a new session. Nothing of it is left once it is unloaded."""
    # What another kernel of this machine may have left would be told below the first cell.
    monkeypatch.setattr(children, "find_orphans", lambda table: {})
    before = traces(bare_shell)
    bare_shell.run_line_magic("load_ext", "memcell")
    yield bare_shell
    bare_shell.run_line_magic("unload_ext", "memcell")
    assert not _left(before, traces(bare_shell)), "unloading left something behind"


@pytest.fixture
def runs(shell: InteractiveShell, session: Session) -> Any:
    """The recorded runs of the cells of a test."""
    return session.history
