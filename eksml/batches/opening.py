"""How a run begins: everything is thought out, then its record claims the name, then it is written.

::

    <run>/run.json             first, and only where there is none: of calls that race, one goes on
    <output>/_eksml_run.json   then: the output is this run's
    <run>/ledger/              last: the input, cut; a run that lacks it was killed here

Nothing is written before the record, so a call that is refused leaves nothing and disturbs nobody.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eksml.batches import ledger
from eksml.batches.asked import Asked, check_same, inventory_of, placed
from eksml.batches.engine import Batch, drive
from eksml.batches.plan import Cut, Sizes, cut, size
from eksml.batches.price import usd_per_node_hour
from eksml.batches.sink import check_claimable, claim
from eksml.cluster.preflight import Offer, offers_of
from eksml.errors import AlreadyExists, EksmlError, InvalidSpec, RunNameInUse, RunNotFound
from eksml.runs.call import pack
from eksml.runs.driver import abandon, check_free, create
from eksml.runs.record import RECORD, read_record
from eksml.storage import URI

if TYPE_CHECKING:
    from eksml.backends import Running
    from eksml.batches.blocks import Block
    from eksml.batches.series import Edition
    from eksml.batches.sources.base import Inventory
    from eksml.cluster import Cluster

PLAN = "plan.json"


@dataclass(frozen=True)
class _Plan:
    """All that is to be written when a run begins."""

    asked: Asked
    shape: Cut
    sizes: Sizes
    offers: tuple[Offer, ...]
    blocks: list[Block] | None
    """None where the run has a ledger."""
    meta: dict[str, Any]
    """For the ledger."""


def opened(
    run: URI,
    asked: Asked,
    cluster: Cluster | Running | str | Path | None,
    working_dir: str | Path | None,
    again: bool,
    edition: Edition | None = None,
) -> tuple[Batch, Running | None]:
    """Record the run, its input cut unless that was done before; it waits for its driver then.

    Raises:
        RunNameInUse: The run is going on or has succeeded, another call has just begun it, or the
            output is somebody else's.
        InvalidSpec, DoesNotFit, …: As :func:`eksml.batch`.
    """
    check_free(run, again=again)
    begun = _begun(run, again)
    if begun is not None:
        check_same(asked, begun["identity"], mended=again)
        asked.source.remember(begun["source"])
        inventory = None
    else:
        inventory = edition.inventory if edition else None
        inventory = inventory or inventory_of(asked)
    asked.output.check_writable()
    check_claimable(asked.output, run)
    if asked.table is not None and (problems := asked.table.problems()):
        raise InvalidSpec(problems, "eksml.batch")
    target, offers = _target(cluster)
    plan = _planned(asked, begun, inventory, offers, edition.meta if edition else {})
    made = _made(run, plan, target, again)
    _record(run, made, target, working_dir, again)
    try:
        _write(run, plan)
    except AlreadyExists as error:
        raise RunNameInUse(
            f"{run} was begun by another call at the same time. Wait for it with "
            f"eksml.get_run({run.name!r})."
        ) from error
    except EksmlError as error:
        abandon(run, error)
        raise
    return made, target


def _begun(run: URI, again: bool) -> dict[str, Any] | None:
    """What the run's ledger was made from; None where none was written yet.

    Raises:
        RunNameInUse: There is a ledger without a run.
    """
    known = (run / RECORD).exists()
    meta = ledger.meta_of(run)
    if not known and (meta is not None or ledger.keys(run)):
        check_free(run, again=again)  # it may have been begun since
        raise RunNameInUse(
            f"{run} holds what is left of a run that was deleted in part. Delete the folder, or "
            "choose another name."
        )
    return meta


def _target(
    cluster: Cluster | Running | str | Path | None,
) -> tuple[Running | None, tuple[Offer, ...]]:
    """The cluster to compute on and what it offers; None for this process's own Ray."""
    from eksml import backends

    target = backends.of(cluster)
    if target is not None:
        return target, target.offers()
    import ray

    from eksml.runs.connect import connect

    connect()
    return None, offers_of(ray.nodes())


def _planned(
    asked: Asked,
    begun: dict[str, Any] | None,
    inventory: Inventory | None,
    offers: tuple[Offer, ...],
    extra: dict[str, Any],
) -> _Plan:
    """The run, cut and sized.

    Raises:
        DoesNotFit: No worker can ever be placed there.
    """
    asked = placed(asked, offers)
    sizing = asked.model.sizing()
    if begun is not None:
        shape, blocks, meta = Cut(**begun["cut"]), None, begun
    else:
        assert inventory is not None
        shape, blocks = cut(asked.job, sizing, inventory, offers)
        made_from = {"identity": asked.identity(), "source": asked.source.learnt()}
        meta = {**made_from, "cut": asdict(shape), **extra}
    return _Plan(asked, shape, size(asked.job, sizing, shape, offers), offers, blocks, meta)


def _made(run: URI, plan: _Plan, target: Running | None, again: bool) -> Batch:
    """All of the run, for its driver."""
    asked = plan.asked
    spec = target.spec if target else None
    return Batch(
        asked.model,
        asked.source,
        asked.output,
        asked.job,
        plan.sizes,
        asked.table,
        generation=_generation(run, again),
        usd_per_node_hour=usd_per_node_hour(spec, plan.sizes, plan.offers),
    )


def _generation(run: URI, again: bool) -> int:
    """How often failed rows are to be tried again in all."""
    try:
        before = int(read_record(run).spec.get("generation", 0))
    except RunNotFound:
        return 0
    return before + again


def _record(
    run: URI, made: Batch, target: Running | None, working_dir: str | Path | None, again: bool
) -> None:
    """Write the run's record, and for a cluster its model and source."""
    call = None
    if target is not None:
        parts = {"model": made.model, "source": made.source, "table": made.table}
        call = pack(drive, parts, run.parent, working_dir=working_dir)
    create(
        run.parent,
        run.name,
        verb="batch",
        entry=str(made.model.describe().get("name", type(made.model).__name__)),
        config={"data": made.source.describe(), "output": str(made.output)},
        spec={
            "job": made.job.model_dump(),
            "sizes": made.sizes.to_dict(),
            "generation": made.generation,
            "usd_per_node_hour": made.usd_per_node_hour,
            "call": str(call) if call else None,
            "output": str(made.output),
        },
        cluster=target.name if target else None,
        deadline_s=made.job.deadline_s,
        budget_node_hours=made.job.budget_node_hours,
        again=again,
    )


def _write(run: URI, plan: _Plan) -> None:
    """Claim the output and write down how the input was cut: the run is recorded by now.

    Raises:
        AlreadyExists: Another call did so; both took up what one left that was killed before.
        RunNameInUse: The output became somebody else's.
    """
    claim(plan.asked.output, run)
    if plan.blocks is not None:
        ledger.save(run, plan.blocks, plan.meta)
    (run / PLAN).write_json(asdict(plan.shape) | plan.sizes.to_dict())
