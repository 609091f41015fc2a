"""The demand loop: how much of each resource each VM holds, decided ahead of the need."""
