"""The log of accesses as part files in one folder, and questions about it."""
