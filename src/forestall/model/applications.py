"""What kinds of application a VM can be for."""

from __future__ import annotations

CATEGORIES = ("web", "database", "cache", "streaming", "batch", "idle")
UNKNOWN = "unknown"
CLAIMS = (*CATEGORIES, UNKNOWN)
"""What a VM can be said to be."""
