"""Training with exact resume on Ray Train: ``eksml.train`` and what its functions are given."""

from eksml.training.context import Context
from eksml.training.job import Checkpointing, TrainJob
from eksml.training.verb import train

__all__ = ["Checkpointing", "Context", "TrainJob", "train"]
