"""What is asked for each row, in what form and order: all without an engine."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from eksml.batches.blocks import FILE
from eksml.batches.models.llm_order import order
from eksml.batches.models.occupancy import Occupancy
from eksml.batches.models.prompts import FromFunction, FromMessages, Template, Unaskable
from eksml.batches.models.sampling import Sampling, row_sampling
from eksml.batches.models.structured import Form, schema_of

HELLO = [{"role": "user", "content": "Hello"}]


def reasons(prompts: list[object]) -> list[str]:
    return [prompt.reason for prompt in prompts if isinstance(prompt, Unaskable)]


def test_a_template_puts_each_rows_columns_into_its_braces() -> None:
    table = pa.table({"text": ["a", "b"], "meta.year": [1999, 2024], "share": [0.126, 0.5]})

    made = Template("{{{text}}} of {meta.year}: {share:.1%} {text!r}").of(table)

    assert made == ["{a} of 1999: 12.6% 'a'", "{b} of 2024: 50.0% 'b'"]


def test_a_template_reaches_no_attribute_of_a_value() -> None:
    assert Template("{text.__class__}").columns() == ["text.__class__"]


def test_a_null_makes_only_its_own_row_unaskable() -> None:
    made = Template("Say {text}").of(pa.table({"text": ["x", None]}))

    assert made[0] == "Say x"
    assert reasons(made) == ["Column 'text', which the prompt names, is null."]


def test_a_value_that_does_not_go_with_its_format_is_told() -> None:
    made = Template("{text:.2f}").of(pa.table({"text": ["x"]}))

    assert "'x' in column 'text'" in reasons(made)[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no template"),
        ("{}", "names no column."),
        ("always the same", "every row would be asked the same"),
    ],
)
def test_a_template_that_cannot_be_is_a_problem(text: str, told: str) -> None:
    assert [told in problem.message for problem in Template(text).problems("prompt")] == [True]


def test_a_function_is_given_the_row_without_what_is_eksmls_own() -> None:
    table = pa.table({"a": [1, 2], FILE: ["f", "f"]})

    assert FromFunction(str).of(table) == ["{'a': 1}", "{'a': 2}"]


def test_a_function_that_raises_makes_only_that_row_unaskable() -> None:
    made = FromFunction(lambda row: f"{1 / row['a']}").of(pa.table({"a": [1, 0]}))

    assert made[0] == "1.0"
    assert reasons(made) == ["The prompt function raised ZeroDivisionError: division by zero."]


def test_messages_are_read_from_structs_and_from_json() -> None:
    structs = FromMessages("m").of(pa.table({"m": [HELLO]}))
    texts = FromMessages("m").of(pa.table({"m": [json.dumps(HELLO)]}))

    assert structs == texts == [HELLO]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "no JSON",
        "[]",
        '[{"role": "boss", "content": "x"}]',
        '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]',
    ],
)
def test_what_is_no_conversation_of_text_is_unaskable(value: str | None) -> None:
    made = FromMessages("m").of(pa.table({"m": pa.array([value], pa.string())}))

    assert len(reasons(made)) == 1


class Person(BaseModel):
    name: str
    age: int


def test_json_that_breaks_the_schema_is_told_with_the_place() -> None:
    form = Form(json_schema=schema_of(Person))

    assert form.breach('{"name": "Ada", "age": 36}') is None
    assert "$.age" in str(form.breach('{"name": "Ada", "age": "old"}'))
    assert "no JSON" in str(form.breach('{"name": "Ad'))


def test_choices_and_expressions_must_be_met_whole() -> None:
    assert Form(choices=("yes", "no")).breach("ye") is not None
    assert Form(choices=("yes", "no")).breach("yes") is None
    assert Form(regex=r"\d{4}").breach("19999") is not None
    assert Form(regex=r"\d{4}").breach("1999") is None


def test_all_problems_of_a_form_are_told() -> None:
    form = Form(json_schema={"type": "objekt"}, regex="(", choices=("a", "a"))

    assert {problem.path for problem in form.problems()} == {"json_schema", "regex", "choices"}


def test_a_rows_own_sampling_comes_as_struct_map_or_json() -> None:
    wanted = {"temperature": 0.5}

    assert row_sampling({"temperature": 0.5, "top_p": None}) == wanted
    assert row_sampling([("temperature", 0.5)]) == wanted
    assert row_sampling('{"temperature": 0.5}') == wanted
    assert row_sampling(None) == {}
    with pytest.raises(ValueError, match="has no effect"):
        row_sampling({"n": 3})


def test_alike_sampling_is_made_once_and_a_retry_is_not_greedy() -> None:
    sampling = Sampling({"max_tokens": 5}, Form())

    first, retry = sampling.of({}), sampling.of({}, attempt=2)

    assert sampling.of({}) is first
    assert (first.temperature, first.max_tokens, first.seed) == (0.0, 5, None)
    assert (retry.temperature, retry.max_tokens, retry.seed) == (0.7, 5, 2)
    with pytest.raises(ValueError, match="Did you mean 'temperature'"):
        sampling.of({"temprature": 1})


@given(st.lists(st.lists(st.integers(0, 3), max_size=40), max_size=30))
def test_every_row_is_asked_once_whatever_the_order(prompts: list[list[int]]) -> None:
    assert sorted(order(prompts)) == list(range(len(prompts)))


def test_rows_with_a_common_beginning_are_asked_next_to_each_other() -> None:
    beginnings = [[number] * 40 for number in range(5)]
    prompts = [[*beginning, 99, *range(end)] for beginning in beginnings for end in range(8)]
    random.Random(1).shuffle(prompts)

    asked = [prompts[row] for row in order(prompts)]

    assert [prompt[0] for prompt in asked[::8]] == [prompt[0] for prompt in asked[7::8]]
    assert len({prompt[0] for prompt in asked[::8]}) == 5
    assert [len(prompt) for prompt in asked[:8]] == list(range(48, 40, -1))


def test_prompts_that_share_nothing_are_asked_longest_first() -> None:
    prompts = [[number] * (number + 1) for number in range(30)]

    assert order(prompts) == list(range(29, -1, -1))


def test_occupancy_counts_time_and_slots_only_while_something_flies() -> None:
    now = [0.0]
    occupancy = Occupancy(slots=2, clock=lambda: now[0])

    now[0] = 5.0  # idle
    with occupancy.one():
        now[0] = 7.0  # 1 of 2 slots for 2 s
        with occupancy.one(), occupancy.one():
            now[0] = 9.0  # all slots for 2 s, and one waits
    now[0] = 20.0  # idle

    assert occupancy.busy() == {"busy_s": 4.0, "occupancy": 0.75}
