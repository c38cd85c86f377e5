"""The oldest IPython and ipykernel that memcell supports, in a virtual environment with the wheel of this checkout."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
OLDEST = ["ipython==8.12.*", "ipykernel==6.*"]


def oldest_python(cache: Path) -> str:
    """The interpreter of the environment, which is kept in ``cache`` and brought up to date.

    Raises:
        RuntimeError: The wheel cannot be built or installed; the message has pip's output.
    """
    settings = [CHECKOUT / "pyproject.toml"]
    sources = [path for path in sorted((CHECKOUT / "memcell").rglob("*")) if path.suffix in (".py", ".ipynb", ".typed")]
    folder = cache / _digest(settings, extra=[sys.version, *OLDEST])
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    wanted = _digest([*settings, *sources])
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    wheel = _build(cache / "wheel")
    if not stamp.exists():
        for outdated in cache.iterdir():
            if outdated.name != "wheel":
                shutil.rmtree(outdated)
        venv.create(folder, with_pip=True)
        _run(str(python), "-m", "pip", "install", "--quiet", str(wheel), *OLDEST)
    else:
        _run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(wheel))
    stamp.write_text(wanted)
    return str(python)


def _build(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(CHECKOUT))
    (wheel,) = folder.glob("memcell-*.whl")
    return wheel


def _digest(paths: Iterable[Path], extra: Iterable[str] = ()) -> str:
    digest = hashlib.sha256("\n".join(extra).encode())
    for path in paths:
        digest.update(str(path.relative_to(CHECKOUT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
