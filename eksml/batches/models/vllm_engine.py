"""A vLLM engine in this process's care: started, asked from any thread, watched, ended.

What eksml uses of vLLM is here, in ``vllm_start`` and ``vllm_scoring``, and, for checking what
users say, in ``sampling`` and ``eksml.llm``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eksml.batches.models.occupancy import Occupancy
from eksml.batches.models.prompts import Ask
from eksml.errors import EngineDied, tell
from eksml.llm.lifeline import Lifeline

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    import numpy as np
    from vllm.v1.engine.async_llm import AsyncLLM

LOOK_S = 1.0
"""Seconds between looks whether the engine lives, beside vLLM's own notice."""


@dataclass(frozen=True)
class Request:
    """One question to the engine."""

    prompt: Any
    """What :meth:`Engine.render` made."""
    params: Any
    """vLLM's ``SamplingParams`` or ``PoolingParams``."""
    adapter: Any = None
    """vLLM's ``LoRARequest``."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the row itself says of sampling."""

    @property
    def tokens(self) -> list[int]:
        """The prompt's token ids."""
        found: list[int] = self.prompt["prompt_token_ids"]
        return found


@dataclass(frozen=True)
class Answer:
    """What came of a request."""

    tokens_in: int
    tokens_out: int = 0
    text: str = ""
    """The generated text."""
    cut: bool = False
    """Whether it ended at ``max_tokens`` or at the model's context."""
    numbers: np.ndarray[Any, Any] | None = None
    """What a pooling model gave: float32, of shape (n,)."""


@dataclass(frozen=True)
class Refusal:
    """The engine did not take a request, or failed at it; the next ones are fine."""

    reason: str


class Engine:
    """A running engine. All methods may be called from any thread.

    Made by :func:`eksml.batches.models.vllm_start.start`.
    """

    def __init__(
        self,
        llm: AsyncLLM,
        loop: asyncio.AbstractEventLoop,
        lifeline: Lifeline,
        cores: Sequence[BaseProcess],
    ) -> None:
        self._llm = llm
        self._loop = loop
        self._lifeline = lifeline
        self._ids = itertools.count()
        self._rendering = threading.Lock()  # tokenizers of transformers bear one thread at a time
        self._closing = threading.Lock()
        self._closed = False
        self._cores = cores
        self.occupancy = Occupancy(llm.vllm_config.scheduler_config.max_num_seqs)

    @property
    def slots(self) -> int:
        """Requests that are computed at once, at most."""
        found: int = self._llm.vllm_config.scheduler_config.max_num_seqs
        return found

    @property
    def llm(self) -> AsyncLLM:
        """vLLM's engine, for ``vllm_scoring``."""
        return self._llm

    def has_chat_template(self) -> bool:
        """Whether the tokenizer, or a vision model's processor, can write a conversation."""
        images = self._llm.renderer.mm_processor
        if images is not None and getattr(images.info.get_hf_processor(), "chat_template", None):
            return True
        tokenizer = self._llm.renderer.tokenizer
        return tokenizer is not None and bool(getattr(tokenizer, "chat_template", True))

    def sees(self) -> bool:
        """Whether the model takes images."""
        images = self._llm.renderer.mm_processor
        return images is not None and bool(images.info.allowed_mm_limits.get("image"))

    def render(self, ask: Ask) -> Any | Refusal:
        """Text or messages as token ids, and images as the model takes them; refused if it is
        longer than the context."""
        from vllm.renderers import ChatParams

        renderer = self._llm.renderer
        if isinstance(ask, str):
            return self.rendered(lambda: renderer.render_cmpl([{"prompt": ask}])[0])
        chat = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
        # Without the cache of images, whose other end in the engine wants requests in this order
        return self.rendered(lambda: renderer.render_chat([ask], chat, skip_mm_cache=True)[1][0])

    def rendered(self, work: Callable[[], Any]) -> Any | Refusal:
        """What ``work`` makes with the tokenizer, alone; what it raises is this row's fault."""
        try:
            with self._rendering:
                return work()
        except Exception as error:  # too long, a chat template's own complaint, odd types
            return Refusal(_sentence(error))

    def tasks(self) -> list[str]:
        """What the model can do, in vLLM's words."""
        asked = asyncio.run_coroutine_threadsafe(self._llm.get_supported_tasks(), self._loop)
        return sorted(asked.result())

    def run(self, requests: Sequence[Request]) -> list[Answer | Refusal]:
        """Submit all requests in this order; returns their answers in it, when all are there.

        Raises:
            EngineDied: The engine is gone, before or meanwhile.
        """
        if self._closed:
            raise EngineDied("The engine was closed.")
        asked = asyncio.run_coroutine_threadsafe(self._all(requests), self._loop)
        while True:
            try:
                return asked.result(timeout=LOOK_S)
            except TimeoutError:
                if self._gone():
                    asked.cancel()
                    raise EngineDied(self._epitaph()) from None

    def pids(self) -> list[int]:
        """Ids of the engine's own processes."""
        return [core.pid for core in self._cores if core.pid is not None and core.is_alive()]

    def close(self) -> None:
        """End the engine's processes. Twice is fine."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(Exception):  # whatever is left, the lifeline ends
                asyncio.run_coroutine_threadsafe(self._shutdown(), self._loop).result(timeout=30)
            del self._llm  # else vLLM's destructor would run, and fail, when Python ends
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._lifeline.let_go()

    async def _shutdown(self) -> None:
        self._llm.shutdown()

    async def _all(self, requests: Sequence[Request]) -> list[Answer | Refusal]:
        answers = await asyncio.gather(
            *(self._one(request) for request in requests), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers  # type: ignore[return-value]

    async def _one(self, request: Request) -> Answer | Refusal:
        from vllm import SamplingParams
        from vllm.v1.engine.exceptions import EngineDeadError

        ask = self._llm.generate if isinstance(request.params, SamplingParams) else self._llm.encode
        number = str(next(self._ids))
        with self.occupancy.one():
            try:
                answers = ask(request.prompt, request.params, number, lora_request=request.adapter)
                outputs = [output async for output in answers]
            except EngineDeadError as error:
                raise EngineDied(self._epitaph()) from error
            except Exception as error:  # this request only: refused, or failed on its own
                if self._gone():
                    raise EngineDied(self._epitaph()) from error
                return Refusal(_sentence(error.__cause__ or error))
        return _answer(outputs[-1] if outputs else None)

    def _gone(self) -> bool:
        return bool(self._llm.errored) or not all(core.is_alive() for core in self._cores)

    def _epitaph(self) -> str:
        codes = [core.exitcode for core in self._cores if not core.is_alive()]
        ended = f" with exit code {codes[0]}" if codes and codes[0] is not None else ""
        return f"vLLM's engine ended{ended}; its log tells why."


def _answer(output: Any) -> Answer | Refusal:
    if output is None or getattr(output, "error", None):
        return Refusal(f"vLLM gave no answer: {getattr(output, 'error', 'nothing came')}.")
    tokens_in = len(output.prompt_token_ids)
    if not isinstance(output.outputs, list):
        numbers = output.outputs.data.float().reshape(-1).numpy()
        return Answer(tokens_in, numbers=numbers)
    (made,) = output.outputs
    if made.finish_reason not in ("stop", "length", "repetition"):
        return Refusal(f"vLLM ended the answer early: {made.finish_reason}.")
    cut = made.finish_reason == "length"
    return Answer(tokens_in, len(made.token_ids), made.text, cut)


def _sentence(error: BaseException) -> str:
    from vllm.exceptions import VLLMError

    if isinstance(error, VLLMError) and error.args:  # its str() adds names of parameters
        return f"{error.args[0]:.500}"
    return f"{tell(error):.500}."
