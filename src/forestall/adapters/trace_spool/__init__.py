"""A recording under way: part files in a folder beside the trace that they become."""
