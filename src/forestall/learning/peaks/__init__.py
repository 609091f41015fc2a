"""How many cores VMs need at most in the next tenths of a second: what is seen of them, experts, their combination."""
