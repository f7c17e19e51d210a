"""In which order the rows of a table are asked."""

from __future__ import annotations

from collections.abc import Sequence

BLOCK = 16
"""Tokens that a prefix must share before vLLM's cache can use any of it (its block size)."""


def order(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Row numbers, prompts with a common beginning next to each other, so that the engine computes
    it once and still has it for the others; long ones first, so that none is left to run alone.

    A group is what shares a block of tokens and half of the shorter prompt with its neighbour.

    Args:
        prompts: Token ids of each row.
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(prompts)), key=lambda row: list(prompts[row])):
        if groups and _related(prompts[groups[-1][-1]], prompts[row]):
            groups[-1].append(row)
        else:
            groups.append([row])
    for group in groups:
        group.sort(key=lambda row: -len(prompts[row]))
    groups.sort(key=lambda group: -len(prompts[group[0]]))
    return [row for group in groups for row in group]


def _related(one: Sequence[int], other: Sequence[int]) -> bool:
    enough = max(BLOCK, min(len(one), len(other)) // 2)
    return len(one) >= enough and one[:enough] == other[:enough]
