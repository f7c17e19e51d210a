"""The endpoint in a worker: requests, tries, limits."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from eksml.batches.models.backoff import delay_s, retry_after_s
from eksml.batches.models.base import Outcome
from eksml.batches.models.endpoint_answers import Answer, outcome_of, send
from eksml.batches.models.prompts import Ask, Unaskable
from eksml.batches.models.rate_limit import TokenBucket
from eksml.batches.models.row_tasks import RowFailed, RowTasks
from eksml.errors import EngineDied, InvalidSpec, MissingExtra, Problem, tell

if TYPE_CHECKING:
    import pyarrow as pa

    from eksml.batches.models.endpoint import Endpoint

T = TypeVar("T")

CHARACTERS_PER_TOKEN = 4
"""Of English text, about; only for the first guess of what a request costs."""
FATAL = {401: "api_key_env", 404: "model"}
"""Statuses that no row can be blamed for, and the argument that can."""
AGAIN = (408, 409, 429)
"""Statuses below 500 after which a request is sent again."""
THREADS = 4
ALIVE_S = 10.0
"""Within which a server that lives says anything at all."""


class _Broken(RowFailed):
    """The connection broke, at every try."""


class LoadedEndpoint:
    """A client of one server. See :class:`eksml.batches.models.base.Loaded`.

    Args:
        model: What is asked, and how.
        workers: How many share the limits a minute.

    Raises:
        MissingExtra: The package ``openai`` is not installed.
        InvalidSpec: The server cannot be reached, or refuses the key.
    """

    threads = THREADS

    def __init__(self, model: Endpoint, workers: int = 1) -> None:
        began = time.perf_counter()
        self._model = model
        self._key = os.environ.get(model.api_key_env)
        self._requests = TokenBucket(_share(model.requests_per_minute, workers))
        self._tokens = TokenBucket(_share(model.tokens_per_minute, workers))
        self._client = _client(model, self._key)
        self._rows = RowTasks(model.max_in_flight)
        try:
            self._rows.wait(self._greet())
        except BaseException:
            self.close()
            raise
        self._load_s = time.perf_counter() - began

    def compute(self, table: pa.Table) -> Outcome:
        """Ask for each row.

        Raises:
            EngineDied: The server is gone.
            InvalidSpec: The server does not know the key or the model.
        """
        answers = self._rows.run(self._answer, self._model.prompts.of(table))
        return outcome_of(answers, self._model.column, self._model.api)

    def busy(self) -> dict[str, float]:
        """Seconds of loading and of waiting for answers, and how full the slots were."""
        return {"load_s": self._load_s, **self._rows.busy()}

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._rows.wait(self._client.close())
            self._rows.close()
            self._client = None

    async def _answer(self, ask: Ask | Unaskable) -> Answer:
        if isinstance(ask, Unaskable):
            raise RowFailed(ask.reason)
        guess = _guess(ask, self._model)

        async def once() -> Answer:
            wait = max(self._requests.take(), self._tokens.take(guess))
            if wait:
                await asyncio.sleep(wait)
            async with asyncio.timeout(self._model.timeout_s):
                answer = await send(self._client, self._model, ask)
            self._tokens.correct(answer.tokens - guess if answer.tokens else 0)
            return answer

        try:
            return await self._patiently(once)
        except _Broken as error:
            if await self._alive():
                raise
            raise EngineDied(f"{self._model.url} cannot be reached: {error}") from error

    async def _alive(self) -> bool:
        """Whether the server says anything: else it is not this row that breaks connections."""
        import openai

        try:
            async with asyncio.timeout(ALIVE_S):
                await self._client.models.list()
        except openai.APIStatusError:
            return True
        except (openai.APIConnectionError, TimeoutError):
            return False
        return True

    async def _greet(self) -> None:
        """Ask for the list of models: the cheapest request that needs the key."""
        import openai

        async def once() -> None:
            async with asyncio.timeout(self._model.timeout_s):
                await self._client.models.list()

        try:
            await self._patiently(once)
        except _Broken as error:
            told = f"{self._model.url} cannot be reached: {error}"
            remedy = "Start the server, or correct the address; workers must reach it, too."
            raise InvalidSpec([Problem("url", told, remedy)], "the endpoint") from error
        except (InvalidSpec, RowFailed) as error:
            status = getattr(error.__cause__, "status_code", None)
            if status == 404 and isinstance(error.__cause__, openai.APIStatusError):
                return  # not every server has such a list
            if isinstance(error, InvalidSpec):
                raise
            told = f"{self._model.url} does not serve: {error}"
            field = "api_key_env" if status == 403 else "url"
            raise InvalidSpec([Problem(field, told)], "the endpoint") from error

    async def _patiently(self, once: Callable[[], Awaitable[T]]) -> T:
        """Try, and try again."""
        for tries in range(1, self._model.retries + 2):
            try:
                return await once()
            except RowFailed:
                raise
            except Exception as error:  # every kind is told apart in there
                wait_s = self._after(error, tries)
            await asyncio.sleep(wait_s)
        raise AssertionError("the last try raises")

    def _after(self, error: Exception, tries: int) -> float:
        """Seconds to wait before the next try.

        Raises:
            RowFailed: There is none.
            InvalidSpec: Other rows would fail alike.
        """
        import openai

        told = self._told(error, tries)
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        asked = None
        if isinstance(error, openai.APIStatusError):
            asked = retry_after_s(error.response.headers)
            self._requests.hold(asked or 0.0)  # it is every row that comes too soon
        if status in FATAL:
            problem = Problem(FATAL[status], told, self._remedy(status))
            raise InvalidSpec([problem], "the endpoint") from error
        timeout = isinstance(error, TimeoutError | openai.APITimeoutError)
        broken = isinstance(error, openai.APIConnectionError) and not timeout
        again = timeout or broken or (status is not None and (status >= 500 or status in AGAIN))
        if again and tries <= self._model.retries:
            return delay_s(tries, random.random()) if asked is None else asked
        raise (_Broken if broken else RowFailed)(told) from error

    def _remedy(self, status: int) -> str:
        if status == 404:
            return "Is the version missing, as in http://host/v1?"
        if self._key:
            return ""
        name = self._model.api_key_env
        return f"{name} is not set where the worker runs. Set it before Ray starts there."

    def _told(self, error: Exception, tries: int) -> str:
        """One sentence for the error table, in which the key is never seen."""
        import openai

        if isinstance(error, openai.APIStatusError):
            said = error.message.removeprefix(f"Error code: {error.status_code} - ")
            text = f"{error.status_code}: {said}"
        elif isinstance(error, TimeoutError | openai.APITimeoutError):
            text = f"No answer within {self._model.timeout_s:g} s"
        else:
            text = tell(error.__cause__ or error)
        text = " ".join(text.split())
        text = (text.replace(self._key, "…") if self._key else text)[:1000]
        return f"{text} (after {tries} tries)" if tries > 1 else text


def _client(model: Endpoint, key: str | None) -> Any:
    try:
        import openai
    except ImportError as error:
        raise MissingExtra(
            "An endpoint is asked through the package openai, which is not installed: "
            "pip install 'openai>=3.0'."
        ) from error
    # Tries and limits are ours: its own know nothing of the other rows
    # A server without keys takes any
    return openai.AsyncOpenAI(
        base_url=model.url, api_key=key or "none", max_retries=0, timeout=model.timeout_s
    )


def _share(limit: float | None, workers: int) -> float | None:
    return None if limit is None else limit / workers


def _guess(ask: Ask, model: Endpoint) -> float:
    text = ask if isinstance(ask, str) else "".join(message["content"] for message in ask)
    answer = model.sampling.get("max_completion_tokens") or model.sampling.get("max_tokens") or 0
    return len(text) / CHARACTERS_PER_TOKEN + answer
