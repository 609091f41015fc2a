"""Recordings that come with Forestall; ``README.md`` in this folder says how they were made."""
