"""Loops over single accesses, compiled to machine code by numba the first time that they run.

What learns from every block and page that a VM uses cannot be vectorised over accesses: each depends on the one
before. Compiled functions see arrays and tuples of arrays only, and change the arrays in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function when it is first called, and keep what was compiled beside its file, or in the user's cache.

    Compiled functions allocate nothing: without numba's counting of references (``_nrt``) a tuple of many arrays costs
    nothing to hand on, and with it ten times the time of what is done with them. One that allocates is refused.

    The kept code of a caller does not know that a function of another file has changed: ``make clean`` after a change.
    """
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "_nrt": False}
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no place to keep it
        made = numba.njit(**options)(function)
    return cast(Function, made)
