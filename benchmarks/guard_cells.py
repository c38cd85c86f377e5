"""Twenty ways to run out of memory. Each stops by itself at ``CAP`` MiB, so that nothing eats the machine."""

from __future__ import annotations

from dataclasses import dataclass

CAP = 1400


@dataclass(frozen=True)
class Overflow:
    """One way.

    Attributes:
        about: What it is, for the table.
        cell: The cell.
        before: The cell that runs first: imports, and what is there before memory runs out.
        packages: The distributions whose versions are named.
        why: Why the kernel dies, or no error is shown, where that is so.
    """

    about: str
    cell: str
    before: str = "pass"
    packages: tuple[str, ...] = ()
    why: str = ""


_BLOCK = "b'x' * (1 << 20)"
_CHILD = f"data = []\nwhile len(data) < {CAP}: data.append({_BLOCK})"
_CHUNK = 10
_CHUNKS = CAP // _CHUNK

OVERFLOWS = {
    "objects": Overflow(
        "Python objects", f"data = []\nwhile len(data) < {CAP * 26}: data.append([number for number in range(1000)])"
    ),
    "numpy": Overflow(
        "numpy, in steps",
        f"data = []\nfor _ in range({_CHUNKS}): data.append(np.ones({_CHUNK} << 17))",
        "import numpy as np",
        ("numpy",),
    ),
    "huge": Overflow(
        "one huge allocation",
        f"data = np.ones({CAP} << 17)",
        "import numpy as np",
        ("numpy",),
        why="one C call fills memory that is mapped already: nothing short of SIGKILL stops it",
    ),
    "pandas": Overflow(
        "pandas, concat in a loop",
        f"frame = piece\nwhile len(frame) < {CAP // 2 << 17}: frame = pd.concat([frame, piece])",
        "import numpy as np, pandas as pd\npiece = pd.DataFrame({'a': np.ones(20 << 17)})",
        ("pandas",),
    ),
    "bare": Overflow(
        "a bare `except:` in a loop",
        f"data = []\nwhile len(data) < {CAP}:\n    try:\n        data.append({_BLOCK})\n    except:\n        pass",
    ),
    "recursion": Overflow(
        "recursion",
        f"def dive(depth):\n    block = {_BLOCK}\n    return dive(depth + 1) if depth < {CAP} else block\ndive(0)",
        f"import sys; sys.setrecursionlimit({CAP + 1000})",
    ),
    "threads": Overflow(
        "two threads",
        f"def fill():\n    for _ in range({CAP // 2}): data.append({_BLOCK})\n"
        "data, threads = [], [threading.Thread(target=fill) for _ in range(2)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()",
        "import threading",
    ),
    "child": Overflow(
        "a child process that grows",
        f"_ = subprocess.run([sys.executable, '-c', {_CHILD!r}])",
        "import subprocess, sys",
    ),
    "c_loop": Overflow("a loop in C that holds the GIL", f"data = list(range({CAP // 40} << 20))"),
    "sort": Overflow(
        "a sort of mapped memory",
        "data = np.sort(mapped)",
        "import numpy as np, tempfile\n"
        f"file = tempfile.TemporaryFile()\nfile.truncate({CAP} << 20)\n"
        "mapped = np.memmap(file, dtype='f8', mode='r')",
        ("numpy",),
        why="as above: the copy to be sorted is one C call into memory that is mapped already",
    ),
    "torch": Overflow(
        "torch",
        f"data = []\nfor _ in range({_CHUNKS}): data.append(torch.ones({_CHUNK} << 18))",
        "import torch",
        ("torch",),
    ),
    "pyarrow": Overflow(
        "pyarrow",
        f"data = []\nfor _ in range({_CHUNKS}): data.append(pc.add(numbers, 1.0))",
        f"import numpy as np, pyarrow as pa, pyarrow.compute as pc\nnumbers = pa.array(np.ones({_CHUNK} << 17))",
        ("pyarrow",),
    ),
    "polars": Overflow(
        "polars",
        f"data = []\nfor _ in range({_CHUNKS}): data.append(piece.select(pl.col('a') + 1))",
        f"import numpy as np, polars as pl\npiece = pl.DataFrame({{'a': np.ones({_CHUNK} << 17)}})",
        ("polars",),
    ),
    "bytearray": Overflow(
        "a `bytearray` that grows", f"data = bytearray()\nwhile len(data) < {CAP} << 20: data += {_BLOCK}"
    ),
    "json": Overflow(
        "`json.loads`", "data = json.loads(text)", f"import json\ntext = '[' + '1.5,' * ({CAP // 32} << 20) + '1]'"
    ),
    "matplotlib": Overflow(
        "matplotlib, open figures",
        f"for _ in range({CAP // 15}):\n    figure = plt.figure(figsize=(20, 20))\n    figure.canvas.draw()",
        "import matplotlib; matplotlib.use('agg')\nimport matplotlib.pyplot as plt",
        ("matplotlib",),
    ),
    "comprehension": Overflow(
        "a comprehension inside a function", f"def make():\n    return [{_BLOCK} for _ in range({CAP})]\ndata = make()"
    ),
    "async": Overflow(
        "a cell that awaits",
        f"data = []\nfor _ in range({CAP}):\n    data.append({_BLOCK})\n    await asyncio.sleep(0)",
        "import asyncio",
    ),
    "generator": Overflow(
        "a generator that C code consumes",
        f"def blocks():\n    for _ in range({CAP}):\n        yield {_BLOCK}\ndata = list(blocks())",
    ),
    "callback": Overflow(
        "a callback from C",
        "data = []\nlibc.qsort(numbers, len(numbers), 4, compare)",
        "import ctypes\nlibc = ctypes.CDLL(None)\nnumbers = (ctypes.c_int * 2000)(*range(2000))\n"
        "@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)\n"
        f"def compare(one, other):\n    if len(data) < {CAP}: data.append({_BLOCK})\n    return 0",
        why="ctypes prints and drops an error that is raised in a callback, so only refused allocations stop it",
    ),
}
