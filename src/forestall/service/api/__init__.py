"""The API over HTTP: ``/api/v1``. It asks a daemon or a controller, and holds nothing of its own but who may ask."""
