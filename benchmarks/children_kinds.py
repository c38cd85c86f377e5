"""Ten kinds of processes that a cell may start. Each cell leaves their pids in ``pids``, once they run."""

from __future__ import annotations

_SLEEP = "[sys.executable, '-c', 'import time; time.sleep(1000)']"
_HEAD = "import os, subprocess, sys, tempfile, time\n"

#: A server that reads requests from its standard input, and that the end of its input does not end.
_STDIO_SERVER = """
import sys, threading
def serve():
    for line in sys.stdin:
        print(line, flush=True)
threading.Thread(target=serve, daemon=True).start()
print('ready', flush=True)
threading.Event().wait()
"""

_NEW_SESSION = f"""
child = subprocess.Popen({_SLEEP}, start_new_session=True)
pids = [child.pid]
"""

_DOUBLE_FORK = """
read_end, write_end = os.pipe()
child = os.fork()
if child == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(write_end, str(os.getpid()).encode())
    os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(1000)'])
os.waitpid(child, 0)
pids = [int(os.read(read_end, 20))]
"""

_POOL = """
import multiprocessing
pool = multiprocessing.Pool(2)
pool.map(abs, [1, 2])
pids = [worker.pid for worker in pool._pool]
"""

_LOKY = """
import loky
executor = loky.get_reusable_executor(2, timeout=3600)  # idle workers would end by themselves
list(executor.map(abs, [1, 2]))
pids = list(executor._processes)
"""

_LAUNCHER = f"""
server = subprocess.Popen(['/bin/sh', '-c', '"$@"; true', 'launcher', sys.executable, '-c', {_STDIO_SERVER!r}],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
server.stdout.readline()
with open(f'/proc/{{server.pid}}/task/{{server.pid}}/children') as file:
    pids = [server.pid, *map(int, file.read().split())]
"""

_DASK = """
import logging, warnings
warnings.simplefilter('ignore')
import distributed
cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
pids = [worker.pid for worker in cluster.workers.values()]
"""

_HTTP = """
server = subprocess.Popen([sys.executable, '-m', 'http.server', '0', '--bind', '127.0.0.1'],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
pids = [server.pid]
"""

_ENV_I = """
with tempfile.NamedTemporaryFile('r') as file:
    os.system(f'env -i /bin/sh -c \\'echo $$ > {file.name}; exec sleep 1000\\' &')
    while not (line := file.readline()).endswith('\\n'):
        file.seek(0)
        time.sleep(0.01)
pids = [int(line)]
"""

KINDS = {
    "`subprocess.Popen`": f"child = subprocess.Popen({_SLEEP})\npids = [child.pid]",
    "`Popen(start_new_session=True)`": _NEW_SESSION,
    "a daemon's double fork": _DOUBLE_FORK,
    "`multiprocessing.Pool`": _POOL,
    "loky's executor": _LOKY,
    "a stdio server behind a launcher": _LAUNCHER,
    "dask's `LocalCluster`": _DASK,
    "`http.server`": _HTTP,
    "`env -i … &`": _ENV_I,
    "a zombie": "child = subprocess.Popen(['true'])\npids = [child.pid]\ntime.sleep(0.2)",
}
KINDS = {kind: _HEAD + code for kind, code in KINDS.items()}
