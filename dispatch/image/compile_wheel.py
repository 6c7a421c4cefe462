"""Runs inside a helper container on the base's own interpreter: compiles the sources of packages.

Standard library only, Python 3.9 or later, run as a file. ``compile_wheel.py JOBS`` starts one process for
every package: what a process has compiled before changes the bytes it writes (which strings are shared
decides about reference flags), so a package must never share its process with another.

JOBS is a JSON file: ``{"site", "prefix", "output", "wheels": {KEY: [SOURCE, …]}}``. For every key the
directory ``output`` gets ``KEY.bin``, the compiled files one after the other, then ``KEY.json``:
``{"tag": cache tag, "sizes": [bytes, or null where it does not compile]}`` in the order of the sources.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_UNCHECKED_HASH = (0b01).to_bytes(4, "little")


def compile_source(path: Path, shown: str) -> bytes | None:
    """Return a source as a hash-based, unchecked ``.pyc`` (PEP 552), or None if it does not compile."""
    text = path.read_bytes()
    try:
        code = compile(text, shown, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError):
        return None
    magic = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH
    return magic + importlib.util.source_hash(text) + marshal.dumps(code)


def compile_wheel(jobs: dict[str, Any], key: str) -> None:
    """Compile one package in this process, in the order of its sources."""
    sizes = []
    site, output = Path(jobs["site"]), Path(jobs["output"])
    with (output / f"{key}.bin").open("wb") as file:
        for source in jobs["wheels"][key]:
            data = compile_source(site / source, f"{jobs['prefix']}/{source}")
            sizes.append(None if data is None else len(data))
            file.write(data or b"")
    facts = {"tag": sys.implementation.cache_tag, "sizes": sizes}
    (output / f"{key}.json").write_text(json.dumps(facts), "ascii")


def compile_all(jobs_path: str, jobs: dict[str, Any]) -> int:
    """Run one process for every package, as many at a time as there are CPUs; return 0 if all ended well."""
    waiting = list(jobs["wheels"])
    running: dict[int, subprocess.Popen[bytes]] = {}
    failed = 0
    command = [sys.executable, "-S", "-s", "-B", "-W", "ignore", __file__, jobs_path]
    while waiting or running:
        while waiting and len(running) < len(os.sched_getaffinity(0)):
            process = subprocess.Popen([*command, waiting.pop(0)], env={"PYTHONHASHSEED": "0"})
            running[process.pid] = process
        pid, status = os.wait()
        failed += status != 0
        running.pop(pid).returncode = status
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    """Compile one package where a key is given, else all of them."""
    jobs = json.loads(Path(arguments[0]).read_text("ascii"))
    if len(arguments) == 1:
        return compile_all(arguments[0], jobs)
    compile_wheel(jobs, arguments[1])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
