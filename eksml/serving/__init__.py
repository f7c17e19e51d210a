"""Language models behind an OpenAI-compatible API on Ray Serve, at bare vLLM's speed.

>>> from eksml.serving import ModelSpec
>>> ModelSpec(name="qwen", source="Qwen/Qwen3-8B", replicas=(1, 4)).replica_range
(1, 4)
"""

from eksml.serving.endpoint import Endpoint
from eksml.serving.spec import AppSpec, LimitsSpec, ModelSpec, ServeSpec, TenantSpec
from eksml.serving.verb import serve

__all__ = [
    "AppSpec",
    "Endpoint",
    "LimitsSpec",
    "ModelSpec",
    "ServeSpec",
    "TenantSpec",
    "serve",
]
