"""Cutting text into chunks that end where a thought does."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BORDERS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"[.!?…。！？][\"'”’»)\]]*\s"),
    re.compile(r"\n"),
    re.compile(r"\s"),
)
"""Where a chunk may end, best first: paragraph, sentence, line, word."""


def chunks(text: str, limit: int, overlap: int = 0) -> Iterator[str]:
    """Parts of at most ``limit`` characters, without blanks around them, in their order.

    A part ends at the last paragraph's end in its second half, else at a sentence's, a line's or a
    word's, else anywhere. Each begins up to ``overlap`` characters before the end of the one
    before it, at a word. Together they hold all of the text but for blanks.
    """
    begin = 0
    while begin < len(text):
        end = begin + limit if begin + limit < len(text) else len(text)
        if end < len(text):
            end = _border(text, begin + limit // 2, end)
        if part := text[begin:end].strip():
            yield part
        if end == len(text):
            return
        begin = max(begin + 1, _word(text, end - overlap, end))


def _border(text: str, first: int, last: int) -> int:
    """The best place to end in (first, last]."""
    for border in _BORDERS:
        ends = [match.end() for match in border.finditer(text, first, last)]
        if ends:
            return ends[-1]
    return last


def _word(text: str, first: int, last: int) -> int:
    """The beginning of the first word in [first, last], or ``last``."""
    if first <= 0 or text[first - 1].isspace():
        return max(first, 0)
    match = re.compile(r"\s+").search(text, first, last)
    return match.end() if match else last
