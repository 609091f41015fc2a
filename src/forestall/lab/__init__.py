"""A few small real guests with real work in them, to try and to measure on."""
