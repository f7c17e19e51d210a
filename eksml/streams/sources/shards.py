"""Shards of Kinesis: which are read together, and which may be read now. Pure.

A shard that is split or merged is closed, and its children take over its keys. A key's records keep
their order if a shard is read after all of its parents, which takes one task for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

Parents = Mapping[str, Sequence[str]]
"""Shards that are still kept, with their parents, which may be kept no more."""


def families(parents: Parents, done: Collection[str]) -> list[list[str]]:
    """Shards that have to be read by one task, since one of them waits for another.

    A parent in ``done`` holds nobody back, and is in no family.
    """
    root = {shard: shard for shard in parents if shard not in done}

    def find(shard: str) -> str:
        while root[shard] != shard:
            shard = root[shard]
        return shard

    for shard in root:
        for parent in parents[shard]:
            if parent in root:
                first, second = sorted((find(shard), find(parent)))
                root[second] = first
    found: dict[str, list[str]] = {}
    for shard in sorted(root):
        found.setdefault(find(shard), []).append(shard)
    return list(found.values())


def share(parents: Parents, done: Collection[str], index: int, parallelism: int) -> set[str]:
    """The shards of task ``index``: every ``parallelism``-th family."""
    return {shard for family in families(parents, done)[index::parallelism] for shard in family}


def readable(mine: Collection[str], parents: Parents, done: Collection[str]) -> list[str]:
    """Those of ``mine`` that have something left and wait for no parent."""
    return [
        shard
        for shard in sorted(mine)
        if shard not in done
        and all(parent in done or parent not in parents for parent in parents.get(shard, ()))
    ]


def born(mine: Collection[str], parents: Parents) -> tuple[set[str], set[str]]:
    """Children of ``mine`` that were not there before: those that are theirs alone, and those that
    have a parent in another task."""
    own, shared = set(mine), set[str]()
    for shard in sorted(parents):  # parents come before their children
        kept = [parent for parent in parents[shard] if parent in parents]
        if shard not in own and any(parent in own for parent in kept):
            if all(parent in own for parent in kept):
                own.add(shard)
            else:
                shared.add(shard)
    return own - set(mine), shared
