"""Scores of a replay: a statistic for each VM, then an aggregation over VMs.

Arrays are (time, vm) throughout. ``totals`` and ``churn`` hold the statistics, ``allocation`` aggregates
them, ``curve`` compares policies at equal violations; ``forecast``, ``risk`` and ``host`` stand alone.
"""
