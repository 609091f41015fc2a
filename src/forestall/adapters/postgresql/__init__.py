"""Behaviour store that several processes share, on PostgreSQL."""
