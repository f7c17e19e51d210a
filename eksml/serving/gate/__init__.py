"""The gate before a model: routes, keys, checks, limits, a fair queue, deadlines, endings."""

from eksml.serving.gate.engine_state import EngineState
from eksml.serving.gate.errors import RETRY_ON, RETRY_STATUS
from eksml.serving.gate.gate import Gate
from eksml.serving.gate.suspects import Suspects

__all__ = ["RETRY_ON", "RETRY_STATUS", "EngineState", "Gate", "Suspects"]
