"""A JupyterLab in Chromium for the tests of this folder, where there is a Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.lab import Lab, find_chromium


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    chromium = find_chromium()
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("CI must test the live view, and no Chromium is installed: apt-get install chromium")
        pytest.skip("no Chromium on this machine: install it to test the live view")
    lab = Lab(tmp_path, chromium)
    yield lab
    lab.close()


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where to keep screenshots: ``$MEMCELL_SCREENSHOTS``, else the test's own folder."""
    folder = Path(os.environ.get("MEMCELL_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
