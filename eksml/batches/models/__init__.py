"""What computes: a user's function, a torch module, an LLM, an endpoint."""

from eksml.batches.models.callable import callable_model
from eksml.batches.models.endpoint import endpoint
from eksml.batches.models.kinds import model_of
from eksml.batches.models.llm_call import llm
from eksml.batches.models.serve_app import serve_app
from eksml.batches.models.torch_module import torch_module

__all__ = ["callable_model", "endpoint", "llm", "model_of", "serve_app", "torch_module"]
