"""The files behind a path: a file, a folder, a pattern with ``*``, or several of them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from eksml.cluster.problems import Refused, Spec
from eksml.errors import InvalidSpec, Problem
from eksml.storage import URI, Stat

Path = str | os.PathLike[str]
Paths = Path | Sequence[Path]


def places(value: Any) -> tuple[str, ...]:
    """One path or several as absolute places, in the order given."""
    several = value if isinstance(value, list | tuple) else [value]
    if not several:
        raise Refused([Problem("", "names no path.", "Give a file, a folder or a pattern.")])
    found, problems = [], list[Problem]()
    for path in several:
        try:
            found.append(str(URI.parse(path)))
        except InvalidSpec as error:
            problems += [Problem("", each.message, each.remedy) for each in error.problems]
    if problems:
        raise Refused(problems)
    return tuple(found)


class Files(Spec):
    """What all sources of files share. A subclass names its kind, and what its files end with."""

    kind: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]
    """Of the files that are taken from a folder; a file or pattern that is named is taken as is."""

    path: Annotated[tuple[str, ...], BeforeValidator(places)]
    """Where, as absolute places."""

    def describe(self) -> dict[str, Any]:
        """The source as JSON."""
        return {"kind": self.kind} | self.model_dump(mode="json", exclude_none=True)

    def learnt(self) -> str | None:
        """Nothing, unless a subclass says more."""
        return None

    def remember(self, learnt: str | None) -> None:
        """Nothing, unless a subclass says more."""

    def files(self) -> list[Stat]:
        """The files, each once, by name.

        Raises:
            InvalidSpec: A path leads to no file with anything in it.
        """
        found, problems = dict[URI, Stat](), list[Problem]()
        for path in self.path:
            everything = list(listed(path))
            taken = [stat for stat in everything if self._takes(path, stat)]
            if not any(stat.size for stat in taken):
                problems.append(Problem("path", *self._nothing(path, everything)))
            found.update((stat.uri, stat) for stat in taken)
        if problems:
            raise InvalidSpec(problems, f"the {self.kind} source")
        return [found[uri] for uri in sorted(found) if found[uri].size]

    def _takes(self, path: str, stat: Stat) -> bool:
        named = "*" in path or str(stat.uri) == path
        return named or ending_of(stat.uri.name) in self.endings

    def _nothing(self, path: str, everything: list[Stat]) -> tuple[str, str]:
        if not everything:
            return f"there is no file at {path}.", "Correct the path, or write the files first."
        if any(self._takes(path, stat) for stat in everything):
            return f"the files at {path} are empty.", "Write something into them first."
        counts = Counter(ending_of(stat.uri.name) or "no ending" for stat in everything)
        told = ", ".join(f"{count} with {ending}" for ending, count in counts.most_common(5))
        return (
            f"no file at {path} ends with {', '.join(self.endings)}; there are {told}.",
            "Name the files by a pattern such as folder/*.dat if they are of this kind.",
        )


def listed(path: str) -> Iterator[Stat]:
    """Every file that a path means, by name. In folders, names that begin with ``_`` or ``.`` are
    passed over, as writers of tables mean them for themselves."""
    files: Iterator[Stat]
    if "*" in path:
        folder = URI.parse(path[: path.index("*")].rpartition("/")[0] or "/")
        matches = _pattern(str(URI.parse(path))).fullmatch
        files = filter(lambda stat: matches(str(stat.uri)), folder.list(recursive=True))
    else:
        folder = URI.parse(path)
        if folder.key and (stat := folder.stat()):
            yield stat
            return
        files = folder.list(recursive=True)
    yield from (stat for stat in files if _visible(stat.uri.relative_to(folder)))


def ending_of(name: str) -> str:
    """What a file's name ends with, in lower case; ``.jsonl.gz`` counts as one."""
    stem, dot, last = name.lower().rpartition(".")
    if last in ("gz", "zst") and "." in stem:
        return f".{stem.rpartition('.')[2]}.{last}"
    return f".{last}" if dot and stem else ""


def few(problems: Iterable[Problem], limit: int = 20) -> list[Problem]:
    """The first problems, and how many more there are: a folder can hold a million files."""
    everything = list(problems)
    if len(everything) <= limit:
        return everything
    more = len(everything) - limit
    return [*everything[:limit], Problem("path", f"{more} more problems are like these.")]


def _visible(name: str) -> bool:
    return not any(part.startswith(("_", ".")) for part in name.split("/"))


def _pattern(path: str) -> re.Pattern[str]:
    """``*`` stands for anything in one name, ``**`` for any folders, or none."""
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    parts = re.split(r"(\*\*/|\*\*|\*)", path)
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts), re.DOTALL)
