"""What people write on the command line becomes the values that they meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from eksml.cli import values
from eksml.errors import InvalidSpec


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("-1.5E+2", -150.0),
        ("0.1", 0.1),
        ("true", True),
        ("null", None),
        ("adamw", "adamw"),
        ("'1e-3'", "1e-3"),
        ("s3://bucket/a=b", "s3://bucket/a=b"),
        ("[64, 32]", [64, 32]),
        ("", None),
    ],
)
def test_a_value_is_typed_as_yaml_types_it(text: str, value: object) -> None:
    found = values.config([f"key={text}"], None)["key"]
    assert found == value
    assert type(found) is type(value)


def test_single_values_go_over_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "digits.yaml"
    file.write_text("lr: 1e-3\nlayers: [64, 32]\nname: '1e-3'\n")
    assert values.config(["lr=5e-4"], file) == {"lr": 5e-4, "layers": [64, 32], "name": "1e-3"}


def test_a_file_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "digits.yaml"
    file.write_text("lr: 1\nlr: 2\n")
    with pytest.raises(InvalidSpec, match="'lr' is written twice"):
        values.config([], file)


@pytest.mark.parametrize("items", [["lr"], ["=3"], ["lr=1", "lr=2"], ["x={"]])
def test_items_that_are_no_pairs_are_refused(items: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        values.config(items, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129600)]
)
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert values.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["120", "2 hours", "-1s", "", "1h30m"])
def test_a_duration_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="2h"):
        values.duration_s(text)


def test_a_checkpoint_comes_every_so_many_steps_or_seconds() -> None:
    assert values.cadence("100") == {"every_steps": 100}
    assert values.cadence("5m") == {"every_s": 300}


def test_resources_are_amounts_by_name() -> None:
    assert values.amounts("CPU=2,GPU=0.5") == {"CPU": 2, "GPU": 0.5}
