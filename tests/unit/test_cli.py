"""The ``memcell`` command as a whole."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize("words", [["orphans"], ["postmortem"], ["postmortem", "--json", "--all"]])
@pytest.mark.skipif(sys.platform == "win32", reason="a pipe without a reader is another error there")
def test_a_reader_that_has_enough_ends_it_quietly(tmp_path, words):
    process = subprocess.Popen(
        [sys.executable, "-c", f"import memcell.cli, sys; sys.stdin.read(); sys.exit(memcell.cli.main({words}))"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert (err, process.returncode) == (b"", 128 + signal.SIGPIPE)
