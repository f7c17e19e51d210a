"""What is served, to whom and within which limits: typed, frozen, every problem at once.

The same description is the argument of :func:`eksml.serve`, the ``args`` of an application in a
Serve configuration file, and what manifests are rendered from. Nothing here touches a file, a
network, Ray or vLLM.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from eksml.cluster.names import AtLeastOne, Count
from eksml.cluster.problems import Refused, Spec
from eksml.errors import Problem
from eksml.serving.arguments import argument_problems
from eksml.serving.words import (
    AbsolutePath,
    Digest,
    Filled,
    Host,
    Name,
    Place,
    Replicas,
    Route,
)

Profile = Literal["latency", "throughput"]
Task = Literal["generate", "embed"]

_KEY_BYTES = 32


class ModelSpec(Spec):
    """One model and how it is run."""

    name: Name
    """As clients say it in ``model``."""
    source: Filled
    """A name on the Hugging Face hub, a local folder, ``s3://bucket/folder``, which is fetched
    once a node, or a version in MLflow's registry: ``models:/NAME/3``, ``models:/NAME@ALIAS``."""
    device: Literal["cpu", "gpu", "neuron"] | None = None
    """What it computes on; None: what the installed vLLM computes on."""
    tensor_parallel: AtLeastOne = 1
    """Devices that share each layer."""
    pipeline_parallel: AtLeastOne = 1
    """Groups of devices that the layers are dealt out to."""
    replicas: Replicas = 1
    """A number, or (min, max) to scale between; a min of 0 scales to none when idle."""
    profile: Profile = "latency"
    """What the settings aim at; see ``eksml serve explain``."""
    task: Task = "generate"
    """What the model does: write text, or embed it."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """vLLM's engine arguments, over the profile's; and those of its server that say how it answers,
    such as ``tool_call_parser``."""
    adapters: dict[Name, Filled] = Field(default_factory=dict)
    """LoRA adapters: the name that clients say in ``model`` → a folder, ``s3://…`` or
    ``models:/…``."""
    queue: Count | None = None
    """Requests that may wait while all of ``max_num_seqs`` are computed; None: the profile's."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = list(argument_problems(self.engine))
        if self.name in self.adapters:
            told = f"{self.name!r} is the model itself to vLLM, so the adapter would never be used."
            problems.append(Problem("adapters", told, "Give one of them another name."))
        if problems:
            raise Refused(problems)
        return self

    @property
    def replica_range(self) -> tuple[int, int]:
        """Fewest and most replicas."""
        return (self.replicas, self.replicas) if isinstance(self.replicas, int) else self.replicas

    @property
    def devices(self) -> int:
        """Devices that one replica computes on."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def served_names(self) -> tuple[str, ...]:
        """What clients may say in ``model``: the model's own name first, then its adapters'."""
        return (self.name, *self.adapters)


class TenantSpec(Spec):
    """Somebody with an API key. A limit of None is none."""

    name: Name
    """As it stands in metrics and logs."""
    key_sha256: Digest
    """Hash of the API key; see :func:`key_hash`. The key itself is never written down."""
    requests_per_minute: AtLeastOne | None = None
    tokens_per_minute: AtLeastOne | None = None
    """Prompt and answer together."""
    concurrent: AtLeastOne | None = None
    """Requests under way at once, those that wait included."""
    weight: float = Field(default=1.0, gt=0, le=1_000_000, allow_inf_nan=False)
    """Share of the engine while others want it too, in proportion to theirs."""


class LimitsSpec(Spec):
    """What any one request may ask for."""

    body_bytes: AtLeastOne = 4 * 2**20
    """Longest body of a request."""
    n: AtLeastOne = 64
    """Most answers to one prompt."""
    deadline_s: float = Field(default=600.0, gt=0, le=86_400, allow_inf_nan=False)
    """Seconds after which a request is ended: the default, and the longest that may be asked."""
    media: tuple[Host, ...] = ()
    """Hosts from which images may be fetched; none: images only come inside requests."""


def repeated(names: Iterable[str]) -> list[str]:
    """Those that are there more than once, in order."""
    return [name for name, count in Counter(names).items() if count > 1]


def tenant_problems(tenants: Iterable[TenantSpec]) -> Iterator[Problem]:
    """Names and keys that two tenants have in common."""
    tenants = tuple(tenants)
    for name in repeated(tenant.name for tenant in tenants):
        yield Problem("", f"two are named {name!r}.", "Name them apart.")
    for digest in repeated(tenant.key_sha256 for tenant in tenants):
        names = [repr(tenant.name) for tenant in tenants if tenant.key_sha256 == digest]
        told = f"{' and '.join(names)} have the same key."
        yield Problem("", told, "Give each its own: `eksml serve key NAME`.")


def _distinct_tenants(tenants: tuple[TenantSpec, ...]) -> tuple[TenantSpec, ...]:
    if problems := list(tenant_problems(tenants)):
        raise Refused(problems)
    return tenants


def _told_apart(models: tuple[ModelSpec, ...]) -> tuple[ModelSpec, ...]:
    if not models:
        raise Refused([Problem("", "holds no model.", "Describe one or more.")])
    served = [name for model in models for name in model.served_names]
    told = "is the name of two models or adapters, so a client could not say which."
    if same := repeated(served):
        raise Refused([Problem("", f"{name!r} {told}", "Name them apart.") for name in same])
    return models


Tenants = Annotated[tuple[TenantSpec, ...], AfterValidator(_distinct_tenants)]
"""No two with the same name or key."""
Models = Annotated[tuple[ModelSpec, ...], AfterValidator(_told_apart)]
"""At least one; all that a client may say in ``model`` is said once."""


class Terms(Spec):
    """What holds for the clients of any of the models."""

    tenants: Tenants = ()
    """Who may ask; none, and no ``tenants_file``: everybody, without a key."""
    tenants_file: AbsolutePath | None = None
    """JSON list of tenants instead, such as a mounted Secret; read again when it changes."""
    limits: LimitsSpec = Field(default_factory=LimitsSpec)
    log_prompts: bool = False
    """Whether prompts and answers stand in the access log."""
    batches: Place | None = None
    """Folder for files and results of ``/v1/batches``; None: there is no such API."""

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if self.tenants and self.tenants_file is not None:
            told = f"{self.tenants_file!r} is given beside tenants."
            raise Refused([Problem("tenants_file", told, "Put all tenants into one of them.")])
        return self

    def terms(self) -> dict[str, Any]:
        """These fields alone, for another specification that has them too."""
        return {name: getattr(self, name) for name in Terms.model_fields}


class AppSpec(Terms):
    """One model's Serve application: the ``args`` of ``import_path: eksml.serving.apps:model``."""

    model: ModelSpec


class ServeSpec(Terms):
    """Models behind one URL: what :func:`eksml.serve` is called with."""

    name: Name = "llm"
    """Of the whole; begins the names of its Serve applications."""
    models: Models
    route: Route = "/"
    """Where the API begins: ``/`` gives ``/v1/chat/completions``."""

    def app(self, model: ModelSpec) -> AppSpec:
        """The application of one of the models."""
        return AppSpec(model=model, **self.terms())

    def route_of(self, model: ModelSpec) -> str:
        """Where a model's own application stands: at ``route`` if it is the only one, else below,
        where the gateway finds it."""
        if len(self.models) == 1:
            return self.route
        return f"{self.route.rstrip('/')}/{model.name}"


def new_key() -> str:
    """A new API key, of 256 random bits. Keep it like a password; only its hash is written down."""
    return f"sk-{secrets.token_urlsafe(_KEY_BYTES)}"


def key_hash(key: str) -> str:
    """What stands in ``key_sha256`` for an API key: SHA-256 of its UTF-8 bytes, in hexadecimal.

    No salt and no slow hash: a key of 256 random bits cannot be guessed, and each request is
    checked.
    """
    return hashlib.sha256(key.encode()).hexdigest()
