"""The bare tools that benchmarks/batch.py measures, and the data that both sides get.

Run by it: ``python batch_peers.py generate|stages JOB``, JOB as JSON; the last line is JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

TOOLS = Path(__file__).parent.parent / "tools"


def write_model(folder: Path) -> None:
    """The random Llama."""
    sys.path.insert(0, str(TOOLS))
    import models

    models.tiny(folder)


def write_prompts(file: Path, rows: int, *, skewed: bool = False, shared: int = 0) -> Path:
    """Texts of Python's own manual, ``shared`` characters of it before each of 20 groups.

    Skewed: answers of 4 … 256 tokens, most of them short.
    """
    from pydoc_data.topics import topics

    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = random.Random(0)
    text = " ".join(" ".join(topics.values()).split())
    heads = [text[at * 1_000 : at * 1_000 + shared] for at in range(20)]
    places = [chance.randrange(len(text) - 200) for _ in range(rows)]
    prompts = [heads[row % 20] + text[at : at + 120] for row, at in enumerate(places)]
    lengths = [min(256, max(4, int(chance.lognormvariate(3, 1)))) for _ in prompts]
    asked = [{"max_tokens": length if skewed else 32} for length in lengths]
    pq.write_table(pa.table({"text": prompts, "sampling": asked}), file)
    return file


def write_images(folder: Path, rows: int) -> None:
    """Random images of 32 × 32 in Parquet, as arrays."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    chance = np.random.default_rng(0)
    for index in range(8):
        count = rows // 8
        pixels = chance.integers(0, 256, count * 1_024, dtype=np.uint8)
        image = pa.FixedSizeListArray.from_arrays(pa.array(pixels), 1_024)
        label = pa.array(chance.integers(0, 10, count))
        table = pa.table({"image": image, "label": label})
        pq.write_table(table, folder / f"{index}.parquet", row_group_size=1_024)


def write_numbers(folder: Path, rows: int) -> Path:
    """Numbers with an id, in Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    for index in range(10):
        n = np.arange(index * rows // 10, (index + 1) * rows // 10)
        pq.write_table(pa.table({"id": n}), folder / f"{index}.parquet", row_group_size=rows // 40)
    return folder


def count(folder: Path) -> int:
    """Rows in a folder of Parquet files."""
    import pyarrow.dataset as ds

    return ds.dataset(folder, format="parquet").count_rows()


class Network:
    """A small network on images of 32 × 32: the same class for both sides."""

    def __init__(self) -> None:
        import torch

        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 32, 3, stride=2),
            torch.nn.ReLU(),
            torch.nn.Conv2d(32, 32, 3),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(32 * 12 * 12, 10),
        )

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        pixels = np.stack(batch["image"]) if batch["image"].dtype == object else batch["image"]
        with torch.inference_mode():
            images = torch.from_numpy(np.array(pixels)).float().view(-1, 1, 32, 32) / 255
            scores = self.net(images)
        return {"digit": scores.argmax(1).numpy()}


class BareNetwork(Network):
    """As one would write it for ``map_batches``: the columns that are kept are handed on.

    A file tells when the first batch of all began.
    """

    def __init__(self, began: Path) -> None:
        super().__init__()
        self.began = began

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if not self.began.exists():
            self.began.write_text(str(time.time()))
        return {"label": batch["label"], **super().__call__(batch)}


def map_batches(data: Path, output: Path, *, workers: int) -> float:
    """The hand-written way; returns its seconds from the first batch on."""
    import ray.data

    began = output.with_suffix(".began")
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.read_parquet(str(data)).map_batches(
        BareNetwork,
        fn_constructor_args=[began],
        batch_size=256,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    ).write_parquet(str(output))
    return time.time() - float(began.read_text())


def stop_at(place: Path, row: int | None) -> None:
    """Tell ``StopsAt`` at which id to fail, or no more."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "stop").write_text("" if row is None else str(row))


class StopsAt:
    """Ends the run at a certain id, once, as a kill would."""

    def __init__(self, place: str) -> None:
        self.stop = Path(place) / "stop"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        text = self.stop.read_text()
        if text and batch["id"].max() >= int(text):
            return None  # type: ignore[return-value]  # refused as a result, which ends the run
        return {"square": batch["id"] ** 2}


def checkpointed(data: Path, output: Path, *, batch: int, stop_at: int | None) -> None:
    """Ray Data with its own checkpoint; ``stop_at`` ends it there."""
    import ray.data
    from ray.data.checkpoint import CheckpointConfig

    def square(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if stop_at is not None and batch["id"].max() >= stop_at:
            raise RuntimeError("stopped as planned")
        return {"id": batch["id"], "square": batch["id"] ** 2}

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    path = str(output / "checkpoint")
    context.checkpoint_config = CheckpointConfig(
        id_column="id", checkpoint_path=path, delete_checkpoint_on_success=False
    )
    try:
        ray.data.read_parquet(str(data)).map_batches(square, batch_size=batch).write_parquet(
            str(output / "out")
        )
    except Exception as error:
        if stop_at is None:
            raise
        print(f"stopped: {type(error).__name__}", file=sys.stderr)
    finally:
        context.checkpoint_config = None


def generate(job: dict[str, Any]) -> dict[str, float]:
    """``vllm.LLM.generate``: everything in one call, or chunk after chunk."""
    import pyarrow.parquet as pq

    began_s = time.monotonic()
    llm = _llm(job)
    start_s = time.monotonic() - began_s
    rows = pq.read_table(job["data"]).to_pylist()
    prompts, params = [row["text"] for row in rows], [_params(job, row) for row in rows]
    step = job["chunk"] or len(rows)
    tokens, began_s = 0, time.monotonic()
    for at in range(0, len(rows), step):
        for answer in llm.generate(prompts[at : at + step], params[at : at + step], use_tqdm=False):
            tokens += len(answer.prompt_token_ids) + len(answer.outputs[0].token_ids)
    return {"tokens": tokens, "seconds": time.monotonic() - began_s, "start_s": start_s}


def stages(job: dict[str, Any]) -> dict[str, float]:
    """``ray.data.llm`` as it comes, but for what it needs to run on CPUs at all."""
    import os

    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

    ray.init(num_cpus=8, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    config = vLLMEngineProcessorConfig(
        model_source=job["model"],
        engine_kwargs={**job["engine"], "dtype": "bfloat16", "enforce_eager": True},
        placement_group_config={"bundles": [{"CPU": 1}]},
        chat_template_stage=False,
        concurrency=1,
    )
    processor = build_processor(
        config,
        preprocess=lambda row: {
            "prompt": row["text"],
            "sampling_params": {**job["sampling"], **row["sampling"]},
        },
        postprocess=lambda row: {
            "tokens": row["num_input_tokens"] + row["num_generated_tokens"],
        },
    )
    began_s = time.monotonic()
    rows = processor(ray.data.read_parquet(job["data"])).take_all()
    seconds = time.monotonic() - began_s
    return {"tokens": sum(row["tokens"] for row in rows), "seconds": seconds, "start_s": 0.0}


def _llm(job: dict[str, Any]) -> Any:
    import os

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM

    return LLM(model=job["model"], dtype="bfloat16", enforce_eager=True, **job["engine"])


def _params(job: dict[str, Any], row: dict[str, Any]) -> Any:
    from vllm import SamplingParams

    return SamplingParams(**{**job["sampling"], **row["sampling"]})


if __name__ == "__main__":
    work = {"generate": generate, "stages": stages}[sys.argv[1]]
    print(json.dumps(work(json.loads(sys.argv[2]))))
