"""A plan as a person reads it: on a terminal of 100 columns, or in a notebook."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from eksml.cluster.catalogue import instances
from eksml.cluster.fit import GroupFit, Scale
from eksml.cluster.groups import HEAD_GROUP
from eksml.cluster.table import amount_of_memory, escaped, html_table, money, span, table
from eksml.cluster.vocabulary import EFA, GPU, NEURON_CORES, NEURON_DEVICES

if TYPE_CHECKING:
    from eksml.cluster.plan import Plan

COLUMNS = 100
_TITLES = ("GROUP", "PODS", "MACHINES", "MARKET", "EACH POD", "$/HOUR")
_NUMBERS = ("$/HOUR",)
_COST_TITLES = ("COST PER HOUR", "AT LEAST", "AT THE START", "AT MOST")


def as_text(plan: Plan) -> str:
    """The report, at most 100 columns wide."""
    parts = [
        f"{_headline(plan)}\n",
        table(_TITLES, _rows(plan), numbers=_NUMBERS),
        "",
        table(_COST_TITLES, _costs(plan), numbers=_COST_TITLES[1:]),
        *_notes(plan),
    ]
    for title, lines in _sections(plan):
        parts.append("\n".join([f"\n{title}", *(_wrapped(line, "  ") for line in lines)]))
    return "\n".join(parts)


def as_html(plan: Plan) -> str:
    """The same for a notebook."""
    parts = [
        f"<p><b>{escaped(_headline(plan))}</b></p>",
        html_table(_TITLES, _rows(plan), numbers=_NUMBERS),
        html_table(_COST_TITLES, _costs(plan), numbers=_COST_TITLES[1:]),
        *(f"<p>{escaped(text)}</p>" for text in _notes(plan)),
    ]
    for title, lines in _sections(plan):
        items = "".join(f"<li>{escaped(line)}</li>" for line in lines)
        parts.append(f"<details open><summary>{title}</summary><ul>{items}</ul></details>")
    return f"<div>{''.join(parts)}</div>"


def _headline(plan: Plan) -> str:
    spec = plan.spec
    where = f"{spec.namespace}/{spec.name} in {spec.region}"
    return f"{where}: Ray {spec.ray}, KubeRay {spec.operator.version}"


def _rows(plan: Plan) -> list[tuple[str, ...]]:
    usd = {one.group: one.usd for one in plan.cost.groups}
    return [
        (
            _names([group.group]),
            _scale(group.pods),
            _machines(group),
            group.market,
            _pod(group),
            _dollars(usd[group.group]) if group.group in usd else "",
        )
        for group in plan.fit.groups
    ]


def _machines(group: GroupFit) -> str:
    if not group.fits:
        return "does not fit"
    others = sum(1 for on in group.on[1:] if on.pods_per_machine)
    more = f" or {others} other{'s' * (others > 1)}" if others else ""
    return f"{_scale(group.machines)} × {group.instance}{'*' * group.chosen}{more}"


def _pod(group: GroupFit) -> str:
    pod = group.pod
    parts = [f"{pod.get('cpu', 0):g} CPU", amount_of_memory(pod.get("memory", 0))]
    machine = instances().get(group.instance)
    gpu = machine.gpu.name if machine and machine.gpu else "GPU"
    neuron = machine.neuron.name if machine and machine.neuron else "Neuron"
    names = ((GPU, gpu), (NEURON_DEVICES, neuron), (NEURON_CORES, "Neuron cores"), (EFA, "EFA"))
    parts += [f"{pod[name]:g} {short}" for name, short in names if name in pod]
    return " ".join(parts)


def _scale(scale: Scale[int]) -> str:
    return span((scale.min, scale.max))


def _dollars(usd: Scale[float]) -> str:
    low, high = (f"{amount:,.2f}" for amount in (usd.min, usd.max))
    return low if low == high else f"{low}–{high}"


def _costs(plan: Plan) -> list[tuple[str, ...]]:
    markets = (
        ("as written", plan.cost.usd),
        ("all on demand", plan.cost.on_demand),
        ("all workers on spot", plan.cost.spot),
    )
    return [(name, *map(money, (usd.min, usd.start, usd.max))) for name, usd in markets]


def _notes(plan: Plan) -> Iterator[str]:
    about = " some of them estimated," if plan.cost.estimated else ""
    yield f"EC2 alone, prices of {plan.cost.as_of},{about} without EKS's fee, volumes and traffic."
    if any(len(group.on) > 1 for group in plan.fit.groups):
        yield "A group of several types is counted with the one that makes it dearest."
    if any(group.chosen for group in plan.fit.groups):
        yield "* No instance is named; counted is the cheapest that holds the pod."


def _sections(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    if plan.problems:
        yield "CANNOT BE STARTED", [str(problem) for problem in plan.problems]
    if plan.warnings:
        yield "WARNINGS", list(plan.warnings)
    if plan.spot:
        yield "SPOT", [f"{risk.group}: {risk.told}" for risk in plan.spot]
    yield "QUOTAS NEEDED (EC2, vCPUs)", _quotas(plan)
    yield "PERMISSIONS NEEDED", list(_permissions(plan))
    yield "MUST BE INSTALLED", [", ".join(plan.addons)]
    if plan.gates:
        yield "ALPHA IN THE OPERATOR", [f"{gate.name}: {gate.why}" for gate in plan.gates]
    yield "OBJECTS", [_objects(plan.objects)]


def _quotas(plan: Plan) -> list[str]:
    return [
        f"{quota.code}  {_scale(quota.vcpus):>9}  {quota.name} ({_names(quota.groups)})"
        for quota in plan.quotas
    ]


def _names(groups: Iterable[str]) -> str:
    return ", ".join("head" if group == HEAD_GROUP else group for group in groups)


def _permissions(plan: Plan) -> Iterator[str]:
    for permission in plan.permissions:
        where = "" if permission.resource == "*" else f" on {permission.resource}"
        yield f"{permission.who}: {', '.join(permission.actions)}{where} ({permission.why})"


def _objects(objects: Iterable[Mapping[str, Any]]) -> str:
    counts = Counter(item["kind"] for item in objects)
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counts.items())


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent * 2,
        break_long_words=False,
        break_on_hyphens=False,
    )
