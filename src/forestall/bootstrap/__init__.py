"""The only room that names concrete adapters: a replay, a live host and a recording are put together here."""
