"""Pod templates held against the API server, which checks no template inside a RayCluster."""

from __future__ import annotations

from collections.abc import Iterator

from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import Object
from eksml.backends.kube.refusals import Refused
from eksml.errors import InvalidSpec, Problem

_NOT_THE_TEMPLATE = ("cannot create resource", "exceeded quota")
"""The caller may not create pods, though the operator may; and a quota may be free again."""


def check_templates(client: KubeClient, raycluster: Object) -> None:
    """Create each template as a Pod in a dry run: wrong fields, pod security, policies.

    Raises:
        InvalidSpec: with every problem of every template.
        ClusterError: the API server does not answer.
    """
    problems: list[Problem] = []
    for path, template in _templates(raycluster):
        try:
            client.create(_pod(raycluster, template), dry_run=True)
        except InvalidSpec as error:
            problems += [Problem(f"{path}.{p.path}", p.message, p.remedy) for p in error.problems]
        except Refused as error:
            if not any(told in str(error) for told in _NOT_THE_TEMPLATE):
                problems.append(Problem(path, str(error)))
    if problems:
        raise InvalidSpec(problems, subject=f"RayCluster {raycluster['metadata']['name']}")


def _templates(raycluster: Object) -> Iterator[tuple[str, Object]]:
    spec = raycluster["spec"]
    yield "spec.headGroupSpec.template", spec["headGroupSpec"]["template"]
    for index, group in enumerate(spec.get("workerGroupSpecs") or ()):
        yield f"spec.workerGroupSpecs.{index}.template", group["template"]


def _pod(raycluster: Object, template: Object) -> Object:
    metadata = raycluster["metadata"]
    inner = template.get("metadata") or {}
    named = {"name": f"{metadata['name']}-check", "namespace": metadata["namespace"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**inner, **named},
        "spec": template["spec"],
    }
