"""What no public interface of Ray gives, and why it is needed. The only such place in this room."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

ADDRESS = "RAY_ADDRESS"


@contextlib.contextmanager
def address_for_train_actors() -> Iterator[None]:
    """Tell Ray Train's own actors which Ray they belong to.

    Its PlacementGroupCleaner asks the state API without an address, which looks for a Ray on the
    machine and dies with «Found multiple active Ray instances» where there are two, a local cluster
    beside an embedded Ray for instance. Ray Train hands on only the variables in this set of its.
    """
    import ray
    from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

    if os.environ.get(ADDRESS):
        yield  # then the whole job has it already
        return
    ENV_VARS_TO_PROPAGATE.add(ADDRESS)
    os.environ[ADDRESS] = ray.get_runtime_context().gcs_address
    try:
        yield
    finally:
        os.environ.pop(ADDRESS, None)
        ENV_VARS_TO_PROPAGATE.discard(ADDRESS)
