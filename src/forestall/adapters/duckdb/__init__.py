"""Behaviour store and journal embedded in one process, on DuckDB."""
