"""What a VM is like: its recent past, its periods, its regimes, whom it moves with, and what is unusual for it."""
