"""The policies that people use today, with their shipped defaults; one a file."""
