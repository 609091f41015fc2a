"""The staging loop: what a VM is about to use is brought near before it asks, and let go if it does not."""
