"""Whose request it is: API keys and the tenants they belong to. No key is kept or logged."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from eksml.cluster.problems import Spec
from eksml.errors import InvalidSpec, Problem
from eksml.serving.gate.errors import Refused
from eksml.serving.spec import Tenants, TenantSpec, Terms

LOOK_S = 1.0
"""Seconds between looks at the file of tenants."""
EVERYBODY = TenantSpec.model_construct(name="", key_sha256="", weight=1.0)
"""Whose requests are where nobody needs a key."""

_SCHEME = "bearer "
_LONGEST_KEY = 512

logger = logging.getLogger("eksml.serving")


class Keyring:
    """The tenants of a specification, or of its file, which is read again when it was changed.

    Args:
        terms: Name the tenants or their file.
        clock: Seconds.

    Raises:
        InvalidSpec: The file is missing or damaged. A file that is damaged later changes nothing
            but the log: the tenants that were read before stay.
    """

    def __init__(self, terms: Terms, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._file = None if terms.tenants_file is None else Path(terms.tenants_file)
        self._open = not terms.tenants and self._file is None
        self._looked_s = clock()
        self._seen = _mark(self._file)
        self._take(terms.tenants if self._file is None else read_tenants(self._file))

    def tenant_of(self, authorization: str) -> TenantSpec:
        """The tenant of an ``Authorization`` header.

        Raises:
            Refused: 401, the header holds no key of ours.
        """
        self._look()
        if self._open:
            return EVERYBODY
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise _unauthorized("You didn't provide an API key. Send it as")
        key = authorization[len(_SCHEME) :].strip()[:_LONGEST_KEY]
        # Found by the hash of a secret, which who guesses doesn't know; the rest in constant time
        digest = hashlib.sha256(key.encode("latin-1")).hexdigest()
        tenant = self._tenants.get(digest)
        if tenant is None or not hmac.compare_digest(tenant.key_sha256, digest):
            raise _unauthorized("The API key is not one of this server's. Send a right one as")
        return tenant

    def _take(self, tenants: Iterable[TenantSpec]) -> None:
        self._tenants = {tenant.key_sha256: tenant for tenant in tenants}

    def _look(self) -> None:
        now_s = self._clock()
        if self._file is None or now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        seen = _mark(self._file)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._take(read_tenants(self._file))
        except InvalidSpec as error:
            logger.error("The tenants stay as they were: %s", error)
        else:
            logger.info("Read %d tenants from %s.", len(self._tenants), self._file)


class _File(Spec):
    tenants: Tenants


def read_tenants(path: Path) -> tuple[TenantSpec, ...]:
    """The tenants in a JSON file. An empty list is right, and lets nobody in.

    Raises:
        InvalidSpec: Tells where the problems are, but no values: one of them may be a key.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not JSON"
        told = f"{str(path)!r} cannot be read ({why})."
        raise InvalidSpec([Problem("tenants_file", told, "Write a JSON list.")]) from None
    try:
        return _File(tenants=found).tenants
    except InvalidSpec as error:
        places = ", ".join(sorted({problem.path for problem in error.problems}))
        told = f"{str(path)!r} is wrong at {places}."
        remedy = "Write a list of objects with name and key_sha256, each of them once."
        raise InvalidSpec([Problem("tenants_file", told, remedy)]) from None


def _mark(path: Path | None) -> tuple[int, ...] | None:
    """What changes when the file does, by a write or by the swap of a mounted Secret."""
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _unauthorized(told: str) -> Refused:
    message = f"{told} `Authorization: Bearer YOUR_KEY`."
    return Refused(401, "invalid_api_key", message, headers=[(b"www-authenticate", b"Bearer")])
