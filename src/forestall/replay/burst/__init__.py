"""The burst loop on recorded traces: the reader, the peers, the replay, the scores, the report."""
