"""Loops over single accesses, compiled to machine code by numba the first time that they run.

What learns from every block and page that a VM uses cannot be vectorised over accesses: each depends on the one
before. Compiled functions see arrays and tuples of arrays only, and change the arrays in place. They allocate nothing:
without numba's counting of references (``_nrt``) a tuple of many arrays costs nothing to hand on, and with it ten times
the time of what is done with them. One that allocates is refused.

What Python calls is an :func:`entry`: it is kept on the disk, with all that it calls, in a folder that is named for the
source of all of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "_nrt": False}
_PACKAGE = Path(__file__).parents[1]
_SOURCES = ("learning/compiled.py", "learning/access/*.py", "staging/*.py", "replay/access/cache.py")


def compiled(function: Function) -> Function:
    """Compile a function into the entries that call it."""
    return cast(Function, numba.njit(**_OPTIONS)(function))


def entry(function: Function) -> Function:
    """Compile a function when it is first called, and keep what was compiled; without a place for it, for now only."""
    try:
        made = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # there is no place to keep it
        return compiled(function)
    keep = made._cache.save_overload

    def keep_if_possible(signature: Any, data: Any) -> None:
        with suppress(OSError):  # a full disk
            keep(signature, data)

    made._cache.save_overload = keep_if_possible
    return cast(Function, made)


def _keep_apart() -> None:
    """Name a folder for the source: the kept code of an entry does not see that a function of another file changed."""
    config: Any = numba.config
    if not config.CACHE_DIR:
        digest = hashlib.sha256()
        for pattern in _SOURCES:
            for path in sorted(_PACKAGE.glob(pattern)):
                digest.update(path.read_bytes())
        config.CACHE_DIR = str(_PACKAGE / "__pycache__" / f"compiled-{digest.hexdigest()[:16]}")


_keep_apart()
