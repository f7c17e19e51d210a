"""Load for servers that speak OpenAI's protocol, by which they are timed and their faults told.

::

    load = Load("http://127.0.0.1:8000/v1", "llm", num_requests=1000, rate=20, stream=0.5)
    with driving(load) as report:
        os.kill(replica, signal.SIGKILL)
    print(report())                          # sent, answered, refused, lost, quantiles
    assert not report().lost

Each request is sent once: nothing is tried again, and nothing that goes wrong is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.errors import InvalidSpec, Problem
from eksml.testing.answer import Answer
from eksml.testing.outcomes import Outcome, Report, Sent

if TYPE_CHECKING:
    import aiohttp

_LINE_BYTES = 2**20


@dataclass(frozen=True)
class Load:
    """What is sent, and how fast: a closed loop of ``clients``, or an open one at a ``rate``."""

    url: str
    """Up to and with ``/v1``."""
    model: str
    num_requests: int
    clients: int | None = None
    """Closed loop: each sends its next request when its last one has ended."""
    rate: float | None = None
    """Open loop: requests per second in the mean, Poisson, whatever the server does."""
    stream: float = 1.0
    """The share of requests that are streamed."""
    prompt: Callable[[int], str] | None = None
    """The prompt of the n-th request; None: ``unique_prompts(seed)``."""
    max_tokens: int = 32
    """Generated for each request, whatever the model says."""
    timeout_s: float = 60.0
    """After which a request has hung."""
    leave_after: int | None = None
    """Hang up after so many chunks of a stream."""
    key: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            Problem(name, f"{value} is too small.", "Give a number above 0.")
            for name in ("num_requests", "clients", "rate", "max_tokens", "timeout_s")
            if (value := getattr(self, name)) is not None and value <= 0
        ]
        if (self.clients is None) == (self.rate is None):
            message = "A load is either a closed or an open loop."
            problems.append(Problem("clients", message, "Give clients or rate, not both."))
        if not 0 <= self.stream <= 1:
            message = f"{self.stream} is not a share."
            problems.append(Problem("stream", message, "Give a number from 0 to 1."))
        if problems:
            raise InvalidSpec(problems, "the load")


def unique_prompts(seed: int, words: int = 48) -> Callable[[int], str]:
    """Prompts of random words that share nothing."""
    return lambda number: _words(random.Random(f"{seed}/{number}"), words)


def shared_prefixes(
    seed: int, prefixes: int = 8, prefix_words: int = 150, words: int = 10
) -> Callable[[int], str]:
    """Prompts that begin with one of ``prefixes`` texts, in random order, and then differ."""
    begins = [_words(random.Random(f"{seed}/prefix {n}"), prefix_words) for n in range(prefixes)]

    def prompt(number: int) -> str:
        dice = random.Random(f"{seed}/{number}")
        return f"{dice.choice(begins)} {_words(dice, words)}"

    return prompt


def run(load: Load) -> Report:
    """Send the whole load and wait for each request's end."""
    return asyncio.run(drive(load))


@contextlib.contextmanager
def driving(load: Load) -> Iterator[Callable[[], Report]]:
    """Send a load from a thread of its own, while the block does what it wants.

    Gives a function that waits for the load's end and returns its report. The block's end
    waits too, unless it raises.
    """
    reports: list[Report] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            reports.append(run(load))
        except BaseException as error:
            errors.append(error)

    def report() -> Report:
        thread.join()
        if errors:
            raise errors[0]
        return reports[0]

    thread = threading.Thread(target=body, name="load", daemon=True)
    thread.start()
    yield report
    report()


async def drive(load: Load) -> Report:
    """Send the whole load from this event loop.

    Every request that was sent is in the report. A bug in here raises; it is not an outcome.
    """
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {load.key}"} if load.key else {}
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, read_bufsize=_LINE_BYTES
    ) as session:
        client = _Client(load, session)
        loop = client.closed() if load.clients else client.open()
        sent = await loop
    ended = max((each.ended for each in sent), default=0.0)
    return Report(tuple(sorted(sent, key=lambda each: each.number)), ended, load.seed)


class _Client:
    """Sends the requests of one load; its clock starts at 0."""

    def __init__(self, load: Load, session: aiohttp.ClientSession) -> None:
        self._load = load
        self._session = session
        self._prompt = load.prompt or unique_prompts(load.seed)
        self._epoch = time.perf_counter()

    def _now(self) -> float:
        return time.perf_counter() - self._epoch

    async def closed(self) -> list[Sent]:
        numbers = iter(range(self._load.num_requests))

        async def one_client() -> list[Sent]:
            return [await self._send(number, self._now()) for number in numbers]

        clients = [one_client() for _ in range(self._load.clients or 0)]
        return list(itertools.chain.from_iterable(await asyncio.gather(*clients)))

    async def open(self) -> list[Sent]:
        dice = random.Random(self._load.seed)
        due = 0.0
        tasks = []
        for number in range(self._load.num_requests):
            due += dice.expovariate(self._load.rate or 0)
            await asyncio.sleep(due - self._now())
            tasks.append(asyncio.create_task(self._send(number, due)))
        return list(await asyncio.gather(*tasks))

    async def _send(self, number: int, began: float) -> Sent:
        stream = random.Random(f"{self._load.seed}/kind {number}").random() < self._load.stream
        answer = Answer(began, self._now)
        try:
            async with asyncio.timeout(self._load.timeout_s):
                await self._exchange(number, stream, answer)
        except TimeoutError:
            answer.end(Outcome.HUNG, f"no end within {self._load.timeout_s:g} s")
        return answer.sent(number, stream)

    async def _exchange(self, number: int, stream: bool, answer: Answer) -> None:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None)
        url = f"{self._load.url}/completions"
        try:
            async with self._session.post(
                url, json=self._body(number, stream), timeout=timeout
            ) as response:
                answer.status = response.status
                if response.status != 200:
                    answer.refused_or_failed(response.headers, await response.text())
                elif stream:
                    await self._read_stream(response, answer)
                else:
                    answer.whole(await response.read(), self._load.max_tokens)
        except (aiohttp.ClientError, OSError) as error:
            begun = answer.status == 200
            answer.end(Outcome.BROKEN if begun else Outcome.FAILED, repr(error))

    def _body(self, number: int, stream: bool) -> dict[str, Any]:
        body = {
            "model": self._load.model,
            "prompt": self._prompt(number),
            "max_tokens": self._load.max_tokens,
            "ignore_eos": True,  # else a random model ends when it likes, and a cut looks the same
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    async def _read_stream(self, response: aiohttp.ClientResponse, answer: Answer) -> None:
        async for event in _events(response):
            if event == "[DONE]":
                answer.done(self._load.max_tokens)
                return
            answer.event(event)
            if answer.outcome is not None:
                return
            if answer.num_chunks == self._load.leave_after:
                answer.end(Outcome.LEFT)
                response.close()
                return
        answer.end(Outcome.TRUNCATED, "the stream ended without [DONE]")


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """The data of server-sent events."""
    async for line in response.content:
        if line.startswith(b"data:"):
            yield line[5:].strip().decode()


def _words(dice: random.Random, count: int) -> str:
    return " ".join("".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=4)) for _ in range(count))
