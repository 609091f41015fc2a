"""The burst loop: cores reserved for the next tenths of a second, and lent while idle."""
