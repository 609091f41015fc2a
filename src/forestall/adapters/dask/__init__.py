"""A cluster of Dask, whose workers compute for us."""
