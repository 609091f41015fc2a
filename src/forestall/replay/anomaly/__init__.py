"""Anomaly scores of recorded series: the reader, the peers, the replay."""
