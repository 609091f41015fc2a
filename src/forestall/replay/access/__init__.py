"""The staging loop through recorded accesses: blocks, pages and connections, each time they are used."""
