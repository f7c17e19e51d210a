"""Batch inference: ``eksml.batch``, the models that it takes and the data that it reads.

>>> import eksml
>>> eksml.batch(Classify, "s3://bucket/images", "s3://bucket/labels")      # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_MODELS = ("endpoint", "callable_model", "llm", "serve_app", "torch_module")
_SOURCES = (
    *("audio", "csv", "delta", "documents", "huggingface", "iceberg"),
    *("images", "jsonl", "parquet", "text"),
)
_HOMES = {
    "batch": "eksml.batches.verb",
    "iceberg_table": "eksml.batches.iceberg_table",
    **dict.fromkeys(_MODELS, "eksml.batches.models"),
    **dict.fromkeys(_SOURCES, "eksml.batches.sources"),
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from eksml.batches.iceberg_table import iceberg_table as iceberg_table
    from eksml.batches.models.callable import callable_model as callable_model
    from eksml.batches.models.endpoint import endpoint as endpoint
    from eksml.batches.models.llm_call import llm as llm
    from eksml.batches.models.serve_app import serve_app as serve_app
    from eksml.batches.models.torch_module import torch_module as torch_module
    from eksml.batches.sources import audio as audio
    from eksml.batches.sources import csv as csv
    from eksml.batches.sources import delta as delta
    from eksml.batches.sources import documents as documents
    from eksml.batches.sources import huggingface as huggingface
    from eksml.batches.sources import iceberg as iceberg
    from eksml.batches.sources import images as images
    from eksml.batches.sources import jsonl as jsonl
    from eksml.batches.sources import parquet as parquet
    from eksml.batches.sources import text as text
    from eksml.batches.verb import batch as batch


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'eksml.batches' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
