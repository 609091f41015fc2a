"""The neighbours of a key, within its space of numbers."""

from __future__ import annotations

from forestall.replay.access.peers.base import SPACE_SHIFT

_NUMBERS = (1 << SPACE_SHIFT) - 1


def neighbours(key: int, first: int, last: int, stride: int = 1) -> range:
    """The keys ``key + first * stride`` to ``key + last * stride`` that lie in the key's space, the farthest first.

    Parameters
    ----------
    key
        From where.
    first, last
        How many strides away, 1 or more.
    stride
        Not 0.
    """
    if (key + last * stride) >> SPACE_SHIFT != key >> SPACE_SHIFT:
        number = key & _NUMBERS
        last = min(last, (_NUMBERS - number) // stride if stride > 0 else number // -stride)
    return range(key + last * stride, key + (first - 1) * stride, -stride)
