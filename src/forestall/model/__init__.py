"""Values and units that every part of Forestall speaks. Immutable, no I/O."""
