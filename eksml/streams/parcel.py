"""Users' functions on their way to actors: opened only where their modules can be found."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parcel:
    """Something pickled, and where the modules lie that it may need; travels within one Ray."""

    data: bytes
    paths: tuple[str, ...]
    """The driver's ``sys.path``, for modules that lie on the same machine."""

    @classmethod
    def of(cls, value: Any) -> Parcel:
        """Pack it."""
        import cloudpickle

        return cls(cloudpickle.dumps(value), tuple(os.path.abspath(path) for path in sys.path))

    def open(self) -> Any:
        """What is in it."""
        import cloudpickle

        sys.path += [path for path in self.paths if path not in sys.path]
        return cloudpickle.loads(self.data)
