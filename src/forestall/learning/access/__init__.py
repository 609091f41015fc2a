"""Models of accesses: what is used next, and with what probability. Bounded in memory, however long the stream."""
