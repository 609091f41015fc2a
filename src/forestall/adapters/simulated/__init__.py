"""The ports over a recorded trace and in memory: for replays and tests."""
