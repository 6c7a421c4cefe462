"""What conda packages mean to pip: the Python distributions that a conda environment brings.

Owns the few names that differ. conda-lock fetches a list of them; a lock must not depend on what is fetched.
"""

from __future__ import annotations

import re

from dispatch.lock.model import CondaLock, CondaPackage
from dispatch.lock.requirements import normalise

_NAMES = {
    "brotli-python": "brotli",
    "dask-core": "dask",
    "docker-py": "docker",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "py-opencv": "opencv-python",
    "py-xgboost": "xgboost",
    "pytables": "tables",
    "python-duckdb": "duckdb",
    "python-flatbuffers": "flatbuffers",
    "python-graphviz": "graphviz",
    "python-tzdata": "tzdata",
    "python-xxhash": "xxhash",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "tensorflow-base": "tensorflow",
}
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?")


def distributions(lock: CondaLock) -> dict[str, str]:
    """Return the Python distributions of a conda environment: normalised name on the index → version."""
    return {
        _NAMES.get(package.name, normalise(package.name)): package.version
        for package in lock.packages
        if _is_python(package)
    }


def pip_constraints(lock: CondaLock) -> tuple[str, ...]:
    """Return what pip packages on top of a conda environment have to agree with, as ``name==version``.

    Where a version is none of Python's, nothing can be demanded of it.
    """
    found = sorted(distributions(lock).items())
    return tuple(f"{name}=={version}" for name, version in found if _VERSION.fullmatch(version))


def _is_python(package: CondaPackage) -> bool:
    needs = {each.split(" ")[0] for each in package.depends}
    return package.name != "python_abi" and (
        package.noarch == "python" or bool(needs & {"python", "python_abi"})
    )
