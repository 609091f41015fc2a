"""One folder for each real thing that a port stands for."""
