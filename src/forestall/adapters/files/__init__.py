"""State of a running daemon in plain files: originals, lock, heartbeat, record of crashes."""
