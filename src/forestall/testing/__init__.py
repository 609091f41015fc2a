"""Contract suites that every implementation of a port or plug-in must pass; subclass and fill in a fixture."""
