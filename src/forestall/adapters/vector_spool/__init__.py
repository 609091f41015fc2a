"""Frames of vectors that wait on the disk until the centre has them."""
