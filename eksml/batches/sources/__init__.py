"""Sources of batch inference: a constructor for each kind, and the kind of a path."""

from eksml.batches.sources.audio import audio
from eksml.batches.sources.base import Inventory, Source
from eksml.batches.sources.csv import csv
from eksml.batches.sources.delta import delta
from eksml.batches.sources.documents import documents
from eksml.batches.sources.huggingface import huggingface
from eksml.batches.sources.iceberg import iceberg
from eksml.batches.sources.images import images
from eksml.batches.sources.jsonl import jsonl
from eksml.batches.sources.kinds import source_of
from eksml.batches.sources.parquet import parquet
from eksml.batches.sources.text import text
from eksml.batches.sources.unique import check_unique

__all__ = [
    "Inventory",
    "Source",
    "audio",
    "check_unique",
    "csv",
    "delta",
    "documents",
    "huggingface",
    "iceberg",
    "images",
    "jsonl",
    "parquet",
    "source_of",
    "text",
]
