"""The web pages: what the API knows, for people; made here, with no more script than live charts need."""
