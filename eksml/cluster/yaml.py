"""YAML, read strictly: mappings, no key twice, no tags that make objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from eksml.errors import InvalidSpec, Problem

# The others are PyYAML's where a tag does not fit its value, such as !!bool maybe
_REFUSALS = (yaml.YAMLError, ValueError, RecursionError, AttributeError, LookupError, TypeError)


class StrictLoader(yaml.SafeLoader):
    """Safe, and refuses a key that is written twice (PyYAML lets the last one win)."""

    # Libraries change PyYAML's own table for the whole process: lm-format-enforcer, which vLLM
    # brings along, has a !!timestamp be any text
    yaml_constructors = yaml.SafeLoader.yaml_constructors | {
        "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_timestamp
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # SafeLoader refuses it
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is written twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes such text in quotes as PyYAML would write raw and read back as another line end."""


_LINE_ENDS = "\r\x85\u2028\u2029"


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(end in text for end in _LINE_ENDS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def load_yaml(text: str, source: str) -> dict[str, Any]:
    """The one mapping in ``text``; ``source`` names it in errors.

    Raises:
        InvalidSpec: not YAML, or not a mapping of names.
    """
    try:
        loaded = yaml.load(text, Loader=StrictLoader)
    except _REFUSALS as error:
        raise InvalidSpec([Problem(source, f"is not valid YAML: {error}.")]) from error
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        problem = Problem(source, "does not hold fields.", "Write such as «name: laptop».")
        raise InvalidSpec([problem])
    return loaded


def load_yaml_file(path: str | Path, subject: str) -> dict[str, Any]:
    """The one mapping in a file; ``subject`` says whose file it is.

    Raises:
        InvalidSpec: it cannot be read, or is not such YAML.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec([Problem(str(path), f"cannot be read: {error}.")], subject) from error
    return load_yaml(text, str(path))


def load_all_yaml(text: str, source: str) -> list[dict[str, Any]]:
    """Each mapping in ``text``, which may hold several documents; empty ones are left out.

    Raises:
        InvalidSpec: not YAML, or a document is not a mapping.
    """
    try:
        documents = list(yaml.load_all(text, Loader=StrictLoader))
    except _REFUSALS as error:
        raise InvalidSpec([Problem(source, f"is not valid YAML: {error}.")]) from error
    problems = [
        Problem(f"{source}, document {number}", "does not hold fields.")
        for number, document in enumerate(documents, start=1)
        if document is not None and not isinstance(document, dict)
    ]
    if problems:
        raise InvalidSpec(problems, subject=source)
    return [document for document in documents if document is not None]


def dump_yaml(fields: dict[str, Any]) -> str:
    """As block YAML, in the order given."""
    return yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
