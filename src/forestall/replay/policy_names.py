"""Which policies ``--policy`` names."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from forestall.model.errors import WrongUse

FORESTALL, ALL = "forestall", "all"


def asked_policies(asked: str, known: Sequence[str]) -> tuple[str, ...]:
    """The policies that are asked for, each once: one name, several separated by commas, or all.

    Raises
    ------
    WrongUse
        One of them is not known.
    """
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    if ALL in names:
        return tuple(known)
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise WrongUse(f"no policy is called {name!r}; {hint}")
    return names
