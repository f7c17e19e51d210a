"""Runs: the handle on what a verb started, its record, and the driver's side of it.

A run is a folder ``<storage>/<name>/``; client, driver and workers meet there and nowhere else.
"""

from eksml.runs.listing import get_run, list_runs
from eksml.runs.receipt import Receipt
from eksml.runs.record import ErrorRecord, RunRecord
from eksml.runs.run import Run

__all__ = ["ErrorRecord", "Receipt", "Run", "RunRecord", "get_run", "list_runs"]
