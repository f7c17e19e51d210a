"""``eksml.batch`` beside the bare tools: vLLM, Ray Data's LLM stages, ``map_batches``, checkpoints.

    python benchmarks/batch.py --quick                # under 50 s: images beside map_batches
    python benchmarks/batch.py                        # all, both sides in turn (A B B A …)
    python benchmarks/batch.py --only generate --rounds 3

Prints one JSON line per figure; ``ratio``: higher is better for us. Engines are started before the
clock; how long that took is shown apart. The model is a random Llama of 13 MB: what is measured is
everything around it. Both sides get the same prompts, sampling and engine arguments.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import batch_peers as peers

HERE = Path(__file__).parent
SIDES = ("ours", "peer")
ENGINE = {"max_model_len": 512, "max_num_seqs": 128}
SAMPLING = {"temperature": 0.0, "max_tokens": 32, "ignore_eos": True}


def images(root: Path, rounds: int, rows: int) -> dict:
    """Images a second through a small network, from and to Parquet, beside ``map_batches``.

    Without the start of workers: ours is told by the run, the peer's counts from its first batch.
    """
    model = eksml_model()
    peers.write_images(root / "images", rows)
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for index, side in turns(rounds):
        if side == "ours":
            report = batch_images(root, model, f"ours-{index}")
            found[side].append(rows / report["computing_s"])
            continue
        output = root / f"peer-{index}"
        found[side].append(rows / peers.map_batches(root / "images", output, workers=2))
        assert peers.count(output) == rows
    return figure("images", found, "images/s")


def eksml_model() -> Any:
    """The network as eksml takes it."""
    import eksml

    return eksml.batches.callable_model(peers.Network, columns=["image"], batch_rows=256)


def batch_images(root: Path, model: Any, name: str) -> dict:
    """The report of one run over images."""
    import eksml

    output = root / name
    call = {"workers": 2, "keep": ["label"], "storage": root / "runs"}
    report: dict = eksml.batch(model, str(root / "images"), output, **call).result()
    assert peers.count(output) == report["rows"]
    return report


def generate(root: Path, rounds: int, rows: int) -> list[dict]:
    """Tokens a second beside ``vllm.LLM.generate``: one call, and chunks of 64, lengths skewed."""
    lines = []
    for bench, skewed, chunk in (("generate", False, 0), ("chunks", True, 64)):
        data = peers.write_prompts(root / f"{bench}.parquet", rows, skewed=skewed, shared=0)
        found: dict[str, list[float]] = {side: [] for side in SIDES}
        starts: dict[str, list[float]] = {side: [] for side in SIDES}
        for index, side in turns(rounds):
            if side == "ours":
                noted = ours(root, data, f"{bench}-{index}")
            else:
                noted = peer("generate", root, data, chunk=chunk)
            found[side].append(noted["tokens"] / noted["seconds"])
            starts[side].append(noted["start_s"])
        started = {f"{side}_start_s": statistics.median(starts[side]) for side in SIDES}
        lines.append(figure(bench, found, "tokens/s", **started))
    return lines


def stages(root: Path, rounds: int, rows: int) -> list[dict]:
    """Tokens a second beside ``ray.data.llm`` with its defaults, also where prefixes are shared.

    Its start cannot be told from its work, so both sides do few rows and many, and the difference
    counts.
    """
    lines = []
    for bench, shared in (("ray_llm", 0), ("ray_llm_prefixes", 256)):
        few = peers.write_prompts(root / f"{bench}-few.parquet", rows // 8, shared=shared)
        many = peers.write_prompts(root / f"{bench}-many.parquet", rows, shared=shared)
        found: dict[str, list[float]] = {side: [] for side in SIDES}
        for index, side in turns(rounds):
            if side == "ours":
                noted = ours(root, many, f"{bench}-{index}")
                found[side].append(noted["tokens"] / noted["seconds"])
            else:
                small, large = (peer("stages", root, data) for data in (few, many))
                tokens = large["tokens"] - small["tokens"]
                found[side].append(tokens / (large["seconds"] - small["seconds"]))
        lines.append(figure(bench, found, "tokens/s"))
    return lines


def restart(root: Path, rounds: int, rows: int, name: str = "restart") -> dict:
    """Seconds to end a run of which 90 % was done, beside Ray Data's checkpoint.

    With few rows what counts is the start of workers; with many, that done input is read again or
    not.
    """
    import eksml

    numbers = peers.write_numbers(root / f"{name}-numbers", rows)
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for index, side in turns(rounds):
        output = root / f"{name}-{side}-{index}"
        if side == "ours":
            call = {"storage": root / "runs", "name": output.name, "rows_per_file": rows // 100}
            model = eksml.batches.callable_model(peers.StopsAt, arguments={"place": str(output)})
            peers.stop_at(output, rows * 9 // 10)
            try:
                eksml.batch(model, str(numbers), output / "out", workers=1, **call)
            except eksml.EksmlError as error:
                print(f"stopped as planned: {str(error)[-80:]!r}", file=sys.stderr)
            peers.stop_at(output, None)
            began_s = time.monotonic()
            eksml.batch(model, str(numbers), output / "out", workers=1, **call)
        else:
            peers.checkpointed(numbers, output, batch=rows // 100, stop_at=rows * 9 // 10)
            began_s = time.monotonic()
            peers.checkpointed(numbers, output, batch=rows // 100, stop_at=None)
        found[side].append(time.monotonic() - began_s)
        assert peers.count(output / "out") == rows, side
    return figure(name, found, "s to end a run of which 90 % was done", lower=True)


def ours(root: Path, data: Path, name: str) -> dict:
    """Tokens, seconds and start of one run of ``eksml.batch``."""
    import eksml

    model = eksml.batches.llm(
        str(root / "tiny"),
        prompt="{text}",
        chat=False,
        sampling=SAMPLING,
        sampling_column="sampling",
        engine=ENGINE,
    )
    run = eksml.batch(model, data, root / f"out-{name}", storage=root / "runs")
    report = run.result()
    assert report["errors"] == 0, report
    tokens = sum(report["lengths"][key]["total"] for key in ("tokens_in", "tokens_out"))
    return {
        "tokens": tokens,
        "seconds": report["computing_s"],
        "start_s": report["engine"]["load_s"],
    }


def peer(what: str, root: Path, data: Path, **more: int) -> dict:
    """The same of a bare tool, in a process of its own."""
    job = {"model": str(root / "tiny"), "data": str(data), "engine": ENGINE, "sampling": SAMPLING}
    done = subprocess.run(
        [sys.executable, HERE / "batch_peers.py", what, json.dumps({**job, **more})],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    # Ray's workers may still print after the peer has said what it noted
    said = [line for line in done.stdout.splitlines() if line.startswith('{"tokens"')]
    noted: dict = json.loads(said[-1])
    return noted


def turns(rounds: int) -> list[tuple[int, str]]:
    """Ours and the peer's in turn: A B, B A, …"""
    return [
        (index, side)
        for index in range(rounds)
        for side in (SIDES if index % 2 == 0 else reversed(SIDES))
    ]


def figure(
    bench: str, found: dict[str, list[float]], unit: str, lower: bool = False, **more: float
) -> dict:
    a, b = (statistics.median(found[side]) for side in SIDES)
    null = [max(x, y) / min(x, y) - 1 for x, y in itertools.pairwise(found["peer"])]
    ranges = {f"{side}_range": [min(found[side]), max(found[side])] for side in SIDES}
    ratio = b / a if lower else a / b
    line = {"bench": bench, "ours": a, "peer": b, "ratio": ratio, "unit": unit}
    return {**line, **ranges, "null": max(null, default=0.0), **more}


def show(line: dict) -> None:
    """One JSON line, its figures to four places."""
    rounded = json.loads(json.dumps(line), parse_float=lambda text: round(float(text), 4))
    print(json.dumps(rounded), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="images alone, one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2_000, help="prompts (default: 2,000)")
    parser.add_argument("--only", choices=["generate", "stages", "restart", "images"])
    options = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory(prefix="eksml-bench-") as folder:
        root = Path(folder)
        wanted = "images" if options.quick else options.only
        if wanted in (None, "generate", "stages"):
            peers.write_model(root / "tiny")
        if wanted in (None, "generate"):
            for line in generate(root, options.rounds, options.rows):
                show(line)
        if wanted in (None, "stages"):
            for line in stages(root, options.rounds, options.rows):
                show(line)
        if wanted in (None, "restart"):
            show(restart(root, options.rounds, rows=20_000))
            show(restart(root, options.rounds, rows=4_000_000, name="restart_large"))
        if wanted in (None, "images"):
            rounds = 1 if options.quick else options.rounds
            show(images(root, rounds, rows=40_000))


if __name__ == "__main__":
    main()
