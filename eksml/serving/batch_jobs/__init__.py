"""Asynchronous jobs: OpenAI's Files and Batches API over storage, computed in idle slots.

The API (``jobs_app``) reads and writes storage only. A ``Worker`` runs beside an engine and answers
the rows of open batches while online requests leave slots idle. The two know of each other through
storage alone, so any of them may die at any time. ``BatchJobs`` is both, for a model's replica.
"""

from eksml.serving.batch_jobs.api import PREFIXES, jobs_app
from eksml.serving.batch_jobs.engine import Engine, Reply
from eksml.serving.batch_jobs.replica import BatchJobs
from eksml.serving.batch_jobs.worker import Worker

__all__ = ["PREFIXES", "BatchJobs", "Engine", "Reply", "Worker", "jobs_app"]
