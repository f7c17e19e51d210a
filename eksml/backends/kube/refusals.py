"""What the API server refuses, in eksml's errors: the one place that translates them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from eksml.backends.kube.objects import Ref
from eksml.errors import ClusterError, ClusterInUse, ClusterNotUp, EksmlError, InvalidSpec, Problem


class Unreachable(ClusterError):
    """The Kubernetes API did not answer properly, after retries."""


class Expired(ClusterError):
    """A resource version is too old to watch from (410): list again."""


class Refused(ClusterError):
    """The API server does not allow it (403)."""


class NotServed(ClusterError):
    """The API server has no such kind: its CRD is not installed."""


@dataclass(frozen=True)
class Refusal:
    """An answer that is no success, as ``meta/v1 Status`` tells it."""

    status: int
    message: str
    reason: str = ""
    causes: tuple[dict[str, str], ...] = ()
    kind: str = ""
    """Plural of what the message is about, such as ``namespaces``."""
    retry_after_s: float = 0.0

    @classmethod
    def read(cls, status: int, body: bytes | str, retry_after: str | None = None) -> Refusal:
        """From an HTTP answer, whoever gave it: a proxy's HTML is only a message."""
        after = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
        text = body.decode(errors="replace") if isinstance(body, bytes) else body
        try:
            told = json.loads(text)
            details = told.get("details") or {}
            causes = tuple(details.get("causes") or ())
            message, reason = str(told.get("message") or ""), str(told.get("reason") or "")
            after = after or float(details.get("retryAfterSeconds") or 0)
            return cls(status, message, reason, causes, str(details.get("kind") or ""), after)
        except (ValueError, AttributeError, TypeError):
            return cls(status, text.strip()[:500], retry_after_s=after)

    @property
    def conflicts(self) -> tuple[dict[str, str], ...]:
        """The fields that other managers own."""
        return tuple(c for c in self.causes if c.get("reason") == "FieldManagerConflict")

    @property
    def may_pass(self) -> bool:
        """Whether the same call may succeed a moment later."""
        if self.status == 409:
            exists = self.reason == "AlreadyExists" and "being deleted" not in self.message
            return not (exists or self.conflicts or "Precondition failed" in self.message)
        return self.status == 429 or (self.status >= 500 and self.status != 501)

    def error(self, what: Ref | str, host: str) -> EksmlError:
        """The error to raise for it."""
        if self.conflicts:
            return ClusterError(_conflict_text(what, self.conflicts))
        known = {
            400: self._invalid,
            401: self._unauthorized,
            403: lambda what, host: Refused(f"{what}: {self.message}."),
            404: self._missing,
            409: self._in_use,
            410: lambda what, host: Expired(f"{what}: {self.message}"),
            422: self._invalid,
        }
        if translate := known.get(self.status):
            return translate(what, host)
        told = f"Kubernetes at {host} answered {self.status} for {what}"
        if self.may_pass:
            return Unreachable(f"{told}, after retries: {self.message}")
        return ClusterError(f"{told}: {self.message}")

    def _invalid(self, what: Ref | str, host: str) -> EksmlError:
        problems = [
            Problem(cause.get("field") or "?", f"{cause.get('message')}.") for cause in self.causes
        ]
        return InvalidSpec(problems or [Problem(str(what), self.message)], subject=str(what))

    def _unauthorized(self, what: Ref | str, host: str) -> EksmlError:
        return ClusterError(
            f"Kubernetes at {host} does not take the credentials (401). Sign in again "
            "(`aws sso login`), or write a kubeconfig anew (`aws eks update-kubeconfig`)."
        )

    def _missing(self, what: Ref | str, host: str) -> EksmlError:
        if self.kind == "namespaces":
            return ClusterError(
                f"{what}: {self.message}. Create it first (`kubectl create namespace …`)."
            )
        return ClusterNotUp(f"{what} is not there: {self.message}.")

    def _in_use(self, what: Ref | str, host: str) -> EksmlError:
        if self.reason == "AlreadyExists":
            return ClusterInUse(f"{what} exists already.")
        return ClusterError(f"{what} is being changed by somebody else: {self.message}")


def no_answer(error: Exception, what: Ref | str, host: str, tried_s: float) -> Unreachable:
    """For connections that fail."""
    return Unreachable(
        f"Kubernetes at {host} does not answer for {what}, asked for {tried_s:.0f} s ({error}). "
        "Is the VPN up, and does the kubeconfig's context name the right cluster?"
    )


def _conflict_text(what: Ref | str, conflicts: tuple[dict[str, Any], ...]) -> str:
    listed = "; ".join(f"{c.get('field')} ({c.get('message')})" for c in conflicts)
    return (
        f"{what} has fields that somebody else manages: {listed}. Nothing was changed. "
        "Take them out of the specification, or say force=True (`--force`) to take them over."
    )
