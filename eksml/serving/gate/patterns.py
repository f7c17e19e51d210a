"""How much work a regular expression is for the compiler of grammars, without compiling it.

Measured with xgrammar 0.2 and a vocabulary of 50,000 on one core: what costs is not length but
parts that may end at several places, for each such place is tried with each token. ``[a-z]*``
written 32 times takes 1 s, ``[a-z]?`` 32 times 4 s, 64 times 25 s, ``[a-z]{1,500}`` 1 s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 1024
"""Characters."""
MOST_FLEXIBLE = 32
"""Parts that repeat a varying number of times; inside a counted group each counts that often."""
MOST_ATOMS = 1000
"""Characters that it stands for when all counts are written out."""
DEEPEST = 32
"""Groups in groups."""

_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]?", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:[pP]\{[^}]*\}|.|$)", re.DOTALL)
_OPENING = re.compile(r"\((?:\?(?:P?<[^>]*>|[a-zA-Z^-]*[:=!]|<[=!]))?")
_HUGE = 1_000_000


@dataclass(slots=True)
class _Item:
    """An atom or a group; ``endless`` if it is nothing but one part that repeats without end."""

    atoms: int = 0
    flexible: int = 0
    endless: bool = False

    def add(self, other: _Item) -> None:
        self.endless = other.endless and self.atoms == 0
        self.atoms = min(self.atoms + other.atoms, _HUGE)
        self.flexible = min(self.flexible + other.flexible, _HUGE)

    def repeat(self, least: int, most: int | None) -> None:
        times = max(least, 1) if most is None else most
        self.atoms = min(self.atoms * times, _HUGE)
        self.flexible = min(self.flexible * times + (least != most), _HUGE)
        self.endless = most is None


class _Scanner:
    """Reads a pattern once, from left to right. What it doesn't know it takes for a character:
    whether the pattern is right is the compiler's to say."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.fault = ""

    def scan(self) -> _Item:
        groups, last = [_Item()], _Item()
        while self.at < len(self.text) and not self.fault:
            character = self.text[self.at]
            repeats = self._repeat(last) if last.atoms else False
            if repeats:
                continue
            groups[-1].add(last)
            last = _Item()
            if character == "(":
                self._skip(_OPENING)
                groups.append(_Item())
                if len(groups) > DEEPEST:
                    self.fault = f"has groups over {DEEPEST} deep"
            elif character == ")" and len(groups) > 1:
                self.at += 1
                last = groups.pop()
            else:
                self._atom(character)
                last = _Item(atoms=1)
        groups[-1].add(last)
        while len(groups) > 1:  # never closed
            inner = groups.pop()
            groups[-1].add(inner)
        return groups[0]

    def _atom(self, character: str) -> None:
        if character == "[":
            self._skip(_CLASS)
        elif character == "\\":
            self._skip(_ESCAPE)
        else:
            self.at += 1

    def _skip(self, what: re.Pattern[str]) -> None:
        match = what.match(self.text, self.at)
        self.at = match.end() if match and match.end() > self.at else self.at + 1

    def _repeat(self, item: _Item) -> bool:
        """Whether a sign of repetition stands here; the item is repeated by it."""
        found = self._bounds()
        if found is None:
            return False
        least, most = found
        if item.endless and most is None:
            self.fault = "repeats without end what repeats without end, such as (a+)+"
        item.repeat(least, most)
        if self.text[self.at : self.at + 1] in ("?", "+"):  # lazy or possessive
            self.at += 1
        return True

    def _bounds(self) -> tuple[int, int | None] | None:
        sign = self.text[self.at]
        if sign in "*+?":
            self.at += 1
            return (int(sign == "+"), 1 if sign == "?" else None)
        match = _COUNT.match(self.text, self.at)
        if match is None or not (match[1] or match[3]):
            return None
        self.at = match.end()
        least = _number(match[1] or "0")
        if not match[2]:
            return least, least
        return least, _number(match[3]) if match[3] else None


def pattern_fault(pattern: str) -> str:
    """Why the pattern is not compiled, as the end of a sentence; nothing if it is."""
    if len(pattern) > LONGEST:
        return f"has {len(pattern):,} characters, over {LONGEST:,}"
    scanner = _Scanner(pattern)
    whole = scanner.scan()
    if scanner.fault:
        return scanner.fault
    if whole.atoms > MOST_ATOMS:
        return f"stands for over {MOST_ATOMS:,} characters when its counts are written out"
    if whole.flexible > MOST_FLEXIBLE:
        return f"has over {MOST_FLEXIBLE} parts that repeat a varying number of times"
    return ""


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 7 else _HUGE
