"""Two profiles: what users otherwise learn by pain, as values with their reasons.

``latency`` keeps answers quick: few requests at a time, prompts in small pieces, a short queue,
more replicas before requests wait. ``throughput`` keeps devices busy: many at a time, large pieces,
a long queue, more replicas when all slots are taken. What a user says stands over the profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eksml.llm.engine_arguments import Device
from eksml.serving.arguments import FRONTEND
from eksml.serving.profile_engine import Choice, engine_choices
from eksml.serving.spec import ModelSpec, Profile

REFUSED_AT_ONCE = 1000
"""Requests to a replica beyond its capacity that reach the gate all the same, so that it tells them
at once that there are too many. What exceeds that waits in Serve's proxy, without an answer."""


@dataclass(frozen=True)
class Settings:
    """All that a replica of a model and its deployment are set to."""

    engine: dict[str, Any]
    """vLLM's engine arguments, but for those that follow from files: model, adapters."""
    frontend: dict[str, Any]
    """Arguments of vLLM's server; names of ``FRONTEND``."""
    slots: int
    """Requests that a replica computes at once, at most."""
    queue: int
    """Requests that wait for a slot in a replica, at most; further ones are refused."""
    target_ongoing: float
    """Requests of a replica, those that wait included, at which it is loaded as it should be."""
    target_ttft_s: float | None
    """Median time to the first token above which there should be more replicas; None: any."""
    max_ongoing: int
    """Requests that Serve lets into a replica at once."""
    upscale_delay_s: float
    downscale_delay_s: float
    surge_percent: int
    """Replicas beyond the target during an update, rounded up."""
    drain_s: float
    """Seconds that a replica which is to go has for the requests that it began."""
    choices: Mapping[str, Choice]
    """Why: the setting's name, ``engine.…`` for the engine's → its value, origin and reason."""

    @property
    def capacity(self) -> int:
        """Requests that a replica takes: computed and waiting."""
        return self.slots + self.queue


@dataclass(frozen=True)
class _Aims:
    """What makes the difference between the profiles, beside the engine's arguments."""

    queue: float
    """Of the slots."""
    queue_why: str
    target: float
    """Of the slots."""
    target_why: str
    upscale_delay_s: float
    upscale_why: str
    downscale_delay_s: float
    downscale_why: str
    surge_percent: int
    surge_why: str


_AIMS: dict[Profile, _Aims] = {
    "latency": _Aims(
        queue=1.0,
        queue_why="who waits longer than one more batch takes is better told to try again",
        target=0.75,
        target_why="a new replica comes before requests wait: a quarter of the slots is left "
        "for those that come while it starts",
        upscale_delay_s=0.0,
        upscale_why="a step in load is answered at once; Serve's 30 s would be 30 s of waiting",
        downscale_delay_s=600.0,
        downscale_why="loading a model takes minutes; a replica that went too early is missed",
        surge_percent=25,
        surge_why="new replicas start before old ones go, at least one, so an update takes no "
        "capacity away",
    ),
    "throughput": _Aims(
        queue=8.0,
        queue_why="work that may wait is better kept than sent away: slots never run empty",
        target=1.25,
        target_why="all slots are busy and the next requests wait already",
        upscale_delay_s=30.0,
        upscale_why="a burst is worked off from the queue; only lasting load is worth a replica",
        downscale_delay_s=300.0,
        downscale_why="an idle accelerator costs more than a queue",
        surge_percent=10,
        surge_why="one or a few more replicas at a time during an update, since devices are dear",
    ),
}


def settings_of(model: ModelSpec, *, deadline_s: float = 600.0) -> Settings:
    """The settings of a model: its profile's, with what the model says over them. Pure.

    Args:
        model: The model. Where its ``device`` is None, it is taken for ``gpu``: who knows the
            installed vLLM fills it in before.
        deadline_s: The longest that any request may take.
    """
    device: Device = model.device or "gpu"
    choices = dict(engine_choices(model, device))
    engine = {name.removeprefix("engine."): choice.value for name, choice in choices.items()}
    slots = engine["max_num_seqs"]
    choices |= _deployment_choices(model, device, slots, deadline_s)
    frontend = {name: value for name, value in model.engine.items() if name in FRONTEND}
    return Settings(
        engine={name: value for name, value in engine.items() if name not in FRONTEND},
        frontend=frontend,
        slots=slots,
        choices=choices,
        **{name: choice.value for name, choice in choices.items() if "." not in name},
    )


def _deployment_choices(
    model: ModelSpec, device: Device, slots: int, deadline_s: float
) -> dict[str, Choice]:
    aims = _AIMS[model.profile]
    queue = _queue(model, aims, slots)
    most = slots + queue.value + REFUSED_AT_ONCE
    return {
        "queue": queue,
        "target_ongoing": Choice(aims.target * slots, "profile", aims.target_why),
        "target_ttft_s": _ttft(model, device),
        "max_ongoing": Choice(
            most, "eksml", f"slots, queue and {REFUSED_AT_ONCE:,} more, which the gate refuses"
        ),
        "upscale_delay_s": Choice(aims.upscale_delay_s, "profile", aims.upscale_why),
        "downscale_delay_s": Choice(aims.downscale_delay_s, "profile", aims.downscale_why),
        "surge_percent": Choice(aims.surge_percent, "profile", aims.surge_why),
        "drain_s": Choice(deadline_s, "eksml", "the longest request: what was begun ends in peace"),
    }


def _queue(model: ModelSpec, aims: _Aims, slots: int) -> Choice:
    if model.queue is not None:
        return Choice(model.queue, "user", "")
    return Choice(round(aims.queue * slots), "profile", aims.queue_why)


def _ttft(model: ModelSpec, device: Device) -> Choice:
    if model.profile == "throughput" or model.task != "generate":
        return Choice(None, "profile", "nobody waits for a first token")
    if device == "cpu":
        return Choice(None, "profile", "CPUs take seconds for a prompt, however few there are")
    return Choice(1.0, "profile", "people notice a second")
