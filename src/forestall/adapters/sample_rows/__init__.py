"""Rows of samples as stores with SQL keep them: a row for each VM and instant, a column for each resource."""
