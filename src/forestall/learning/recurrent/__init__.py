"""The recurrent model: what it sees, its graphs, its state. Training is in :mod:`forestall.learning.training`."""
