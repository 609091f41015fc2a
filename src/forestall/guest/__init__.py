"""What runs inside a virtual machine, as one file: Python 3.9 and its standard library, no network.

The host's side imports from here what both sides must agree on: the frames (``wire``) and the names of what is
counted (``fields``, ``operations``).
"""
