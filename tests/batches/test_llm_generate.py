"""A real vLLM engine on the CPU generates text for tables."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import family
import psutil
import pyarrow as pa
import pytest
from tiny_llm import tiny_adapter, tiny_llm

from eksml.batches.models import llm
from eksml.batches.models.endpoint import endpoint
from eksml.batches.models.llm_adapters import Adapters
from eksml.batches.models.llm_loaded import LoadedLLM
from eksml.batches.models.vllm_engine import Engine
from eksml.batches.models.vllm_start import start
from eksml.errors import EngineDied
from eksml.llm.engine_arguments import complete

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

Load = Callable[..., LoadedLLM]
WORDS = ["river", "stone", "light", "engine", "paper", "garden", "winter", "window"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "model": str(tiny_llm(folder / "tiny")),
        "polite": str(tiny_adapter(folder / "polite", seed=1)),
        "rude": str(tiny_adapter(folder / "rude", seed=2)),
    }


@pytest.fixture(scope="module")
def engine(places: dict[str, str]) -> Iterator[Engine]:
    """One engine for all tests of this file; the last test kills it."""
    adapters = Adapters({name: places[name] for name in ("polite", "rude")}, None, None)
    given = {"model": places["model"], "runner": "generate", **adapters.engine_arguments("cpu")}
    running = start(complete(given, "cpu"), "cpu")
    yield running
    running.close()


@pytest.fixture
def load(engine: Engine, places: dict[str, str]) -> Load:
    """A model on the one engine: what ``load`` gives, without the wait."""

    def made(**fields: Any) -> LoadedLLM:
        model = llm(places["model"], **{"prompt": "Say {text}", **fields})
        adapters = Adapters(model.adapters, model.adapter, model.adapter_column)
        work = model.work_on(engine, adapters)
        return LoadedLLM(engine, work, model.column, threads=4, load_s=0.0)

    return made


def texts(count: int) -> pa.Table:
    return pa.table({"text": [" ".join(WORDS[: 1 + row % 8]) + f" {row}" for row in range(count)]})


def answers(loaded: LoadedLLM, table: pa.Table) -> list[str]:
    outcome = loaded.compute(table)
    assert outcome.errors == {}
    return outcome.columns["generated_text"].to_pylist()


def test_greedy_answers_are_those_of_vllms_own_server(load: Load, vllm_url: str) -> None:
    table, sampling = texts(100), {"max_tokens": 24}

    def said(api: str) -> list[str]:
        greedy = {**sampling, "temperature": 0}
        asked = endpoint(vllm_url, model="tiny", prompt="Say {text}", api=api, sampling=greedy)
        return answers(asked.load(), table)

    plain, chat = said("completions"), said("chat")

    assert answers(load(chat=False, sampling=sampling), table) == plain
    assert answers(load(sampling=sampling), table) == chat
    assert plain != chat


def test_rows_that_cannot_be_asked_are_errors_and_the_others_are_computed(load: Load) -> None:
    table = pa.table({"text": ["fine", None, "far too long " * 500, "fine too"]})

    outcome = load().compute(table)

    assert set(outcome.errors) == {1, 2}
    assert "null" in outcome.errors[1]
    assert "512" in outcome.errors[2]
    kept = outcome.columns["generated_text"].to_pylist()
    assert [text is None for text in kept] == [False, True, True, False]
    assert [len(column) for column in outcome.lengths.values()] == [2, 2]
    assert all(0 < count <= 128 for count in outcome.lengths["tokens_out"])


def test_a_prompt_that_nearly_fills_the_context_is_answered_to_its_end(load: Load) -> None:
    loaded = load(chat=False, prompt="{text}", sampling={"max_tokens": 400, "ignore_eos": True})

    outcome = loaded.compute(pa.table({"text": ["a" * 200]}))

    assert outcome.errors == {}
    (tokens_in,), (tokens_out,) = outcome.lengths["tokens_in"], outcome.lengths["tokens_out"]
    assert tokens_out == min(400, 512 - tokens_in)


def test_an_empty_prompt_is_an_error_of_its_row(load: Load) -> None:
    outcome = load(chat=False, prompt="{text}").compute(pa.table({"text": ["", "x"]}))

    assert set(outcome.errors) == {0}


def test_no_rows_give_no_rows(load: Load) -> None:
    outcome = load().compute(pa.table({"text": pa.array([], pa.string())}))

    assert outcome.columns.num_rows == 0
    assert outcome.columns.schema.field("generated_text").type == pa.string()


def test_rows_may_have_sampling_of_their_own(load: Load) -> None:
    own = ['{"max_tokens": 3}', None, '{"max_tokens": 7}', '{"top_p": 9}', '{"temprature": 1}']
    table = pa.table({"text": ["x"] * 5, "own": own})

    outcome = load(sampling_column="own", sampling={"ignore_eos": True}).compute(table)

    assert outcome.lengths["tokens_out"] == [3, 128, 7]
    assert "top_p" in outcome.errors[3]
    assert "Did you mean 'temperature'?" in outcome.errors[4]


def test_answers_keep_to_choices_expressions_and_schemas(load: Load) -> None:
    table = texts(6)
    schema = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}, "word": {"enum": ["a", "b"]}},
        "required": ["sure", "word"],
        "additionalProperties": False,
    }

    assert set(answers(load(choices=["yes", "no"]), table)) <= {"yes", "no"}
    assert all(len(text) == 4 and text.isdigit() for text in answers(load(regex=r"\d{4}"), table))
    for text in answers(load(json_schema=schema), table):
        assert set(json.loads(text)) == {"sure", "word"}


def test_json_that_stays_broken_is_an_error_after_its_tries(load: Load) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    loaded = load(json_schema=schema, json_tries=2, sampling={"max_tokens": 4})

    outcome = loaded.compute(texts(2))

    assert set(outcome.errors) == {0, 1}
    assert "is no JSON" in outcome.errors[0]
    assert "cut after 4 tokens: raise max_tokens" in outcome.errors[0]


def test_a_broken_answer_may_be_right_at_the_next_try(load: Load) -> None:
    """Of three digits the engine gives any; the schema only takes some, which no grammar knows."""
    schema = {"type": "integer", "not": {"enum": list(range(0, 1000, 2))}}
    sampling = {"max_tokens": 3, "stop": [" "]}
    table = texts(40)

    once = load(json_schema=schema, json_tries=0, sampling=sampling).compute(table)
    often = load(json_schema=schema, json_tries=6, sampling=sampling).compute(table)

    assert len(often.errors) < len(once.errors)


def test_each_row_is_answered_by_the_adapter_that_it_names(
    load: Load, places: dict[str, str]
) -> None:
    names = ["polite", "rude", None, "polite", "nobody"]
    table = pa.table({"text": ["river"] * 5, "who": names})
    adapters = {name: places[name] for name in ("polite", "rude")}

    sampling = {"max_tokens": 8, "ignore_eos": True}

    outcome = load(adapters=adapters, adapter_column="who", sampling=sampling).compute(table)

    said = outcome.columns["generated_text"].to_pylist()
    assert len({said[0], said[1], said[2]}) == 3
    assert said[0] == said[3]
    assert answers(load(sampling=sampling), table.slice(2, 1)) == [said[2]]
    assert "'nobody' in column 'who' is none of the adapters" in outcome.errors[4]
    assert answers(
        load(adapters=adapters, adapter="rude", sampling=sampling), table.slice(0, 1)
    ) == [said[1]]


def test_a_function_and_a_column_ask_the_same_as_a_template(load: Load) -> None:
    table = texts(4)
    conversations = [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Say {text}"}]
        for text in table["text"].to_pylist()
    ]
    table = table.append_column("talk", pa.array(conversations))

    wanted = answers(load(system="Be brief."), table)

    assert answers(load(prompt=lambda row: row["talk"]), table) == wanted
    assert answers(load(prompt=None, messages_column="talk"), table) == wanted
    assert answers(load(), table) != wanted


def test_tables_in_flight_at_once_get_their_own_answers_in_order(load: Load) -> None:
    loaded = load(sampling={"max_tokens": 8})
    tables = [texts(20 + number).slice(number) for number in range(6)]
    wanted = [answers(loaded, table) for table in tables]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda table: answers(loaded, table), tables)) == wanted

    busy = loaded.busy()
    assert busy["busy_s"] > 0
    assert 0 < busy["occupancy"] <= 1


STARTER = """
from eksml.batches.models import llm
from eksml.batches.models.endpoint import endpoint
import sys

if __name__ == "__main__":
    llm(sys.argv[1], prompt="{a}", device="cpu").load()
"""


def test_an_engine_does_not_outlive_a_worker_that_is_killed_while_it_starts(
    places: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "starter.py"
    script.write_text(STARTER)
    with subprocess.Popen([sys.executable, str(script), places["model"]]) as worker:
        spawned: list[psutil.Process] = []
        while not spawned and worker.poll() is None:
            time.sleep(0.2)
            spawned = family.titled("spawn_main", psutil.Process(worker.pid).children())
        time.sleep(2)
        assert spawned

        worker.kill()

    gone, alive = psutil.wait_procs(spawned, timeout=30)
    assert (len(gone), alive) == (len(spawned), [])


def test_a_killed_engine_is_told_to_all_who_wait_and_to_all_who_come(
    load: Load, engine: Engine
) -> None:
    loaded = load(sampling={"max_tokens": 400, "ignore_eos": True})
    (core,) = engine.pids()
    told: list[Exception] = []

    def wait_for(table: pa.Table) -> None:
        try:
            loaded.compute(table)
        except EngineDied as error:
            told.append(error)

    waiting = [threading.Thread(target=wait_for, args=(texts(60),)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    time.sleep(2)
    os.kill(core, signal.SIGKILL)
    for thread in waiting:
        thread.join(timeout=30)

    assert len(told) == 3
    assert "exit code -9" in str(told[0])
    with pytest.raises(EngineDied):
        loaded.compute(texts(1))
    assert engine.pids() == []
    loaded.close()
    loaded.close()
