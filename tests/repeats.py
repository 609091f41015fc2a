"""How often tests repeat what may go wrong at any moment."""

from __future__ import annotations

import os


def times(usual: int, thorough: int) -> int:
    """So often; the second where FORESTALL_THOROUGH is set in the environment."""
    return thorough if os.environ.get("FORESTALL_THOROUGH") else usual
