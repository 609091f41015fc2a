"""What runs inside a guest of the lab: the standard library of Python 3.11 only.

The files of this folder are copied into each guest, under the same package name.
"""
