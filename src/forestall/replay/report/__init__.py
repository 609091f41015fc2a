"""The report of a replay: ``page`` renders it, ``summary`` gives its numbers as JSON.

This file imports nothing, so that a summary can be written without Matplotlib and Jinja.
"""
