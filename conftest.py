"""Runs the examples of the README and of the docstrings, so that they stay true."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

# A shell's background job ignores Ctrl-C, and so would the tests that send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _black_boxes_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What processes that tests kill leave behind stays out of the user's own state folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def no_registrations() -> Iterator[None]:
    """The examples register cleaners with the process's own session; afterwards there are none."""
    yield
    from memcell.session import get_session

    session = get_session()
    for cleaner in session.cleaning.registry.cleaners():
        session.cleaning.registry.unregister(cleaner.name)
    session.close_all()


_documents: Any = Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md"], fixtures=["no_registrations"])
_docstrings: Any = Sybil(parsers=[DocTestParser()], patterns=["memcell/**/*.py"], fixtures=["no_registrations"])
pytest_collect_file = (_documents + _docstrings).pytest()
