"""``eksml.train`` beside ``torchrun``: speed, the stall of a checkpoint, recovery from a kill.

    python benchmarks/train.py --quick      # under 50 s: speed alone
    python benchmarks/train.py              # all three, both sides in turn (A B B A …)

One thread a worker, the same loop (benchmarks/train_loop.py) on both sides. Prints one JSON line
per figure; ``ratio``: higher is better for us. Speed is measured twice: with as many workers as
leave a core to Ray's own processes, as where an accelerator does the work (the last line), and with
a worker on every core, where those processes cost a share of it (``train_all_cores``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import train_loop

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def ours(folder: Path, config: dict, workers: int = 2, **options) -> dict:
    """Run the loop under ``eksml.train``; gives what the first rank noted."""
    import eksml

    (folder / "notes").mkdir(parents=True)
    eksml.train(
        train_loop.fit,
        config={**config, "notes": str(folder / "notes")},
        workers=workers,
        storage=folder,
        **options,
    )
    return json.loads((folder / "notes" / "rank0.json").read_text())


def peer(folder: Path, config: dict, workers: int = 2, max_restarts: int = 0) -> dict:
    """Run the loop under torchrun."""
    start_peer(folder, config, workers, max_restarts).wait()
    return json.loads((folder / "notes" / "rank0.json").read_text())


def start_peer(folder: Path, config: dict, workers: int, max_restarts: int) -> subprocess.Popen:
    (folder / "notes").mkdir(parents=True)
    config = {**config, "notes": str(folder / "notes"), "storage": str(folder)}
    command = [
        *TORCHRUN,
        f"--nproc-per-node={workers}",
        f"--max-restarts={max_restarts}",
        str(HERE / "train_loop.py"),
        json.dumps(config),
    ]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def speed(root: Path, bench: str, workers: int, rounds: int, steps: int) -> dict:
    """Steps a second, and an A/A null: how far two runs of the same side are apart."""
    config = {"steps": steps, "work": 1}
    sides = {"ours": ours, "peer": peer}
    found: dict[str, list[float]] = {"ours": [], "peer": []}
    for index in range(rounds):
        order = ["ours", "peer"] if index % 2 == 0 else ["peer", "ours"]
        for side in order:
            notes = sides[side](root / f"{bench}-{side}-{index}", config, workers)
            found[side].append(1 / statistics.median(notes["step_s"]))
    null = [max(a, b) / min(a, b) - 1 for a, b in itertools.pairwise(found["peer"])]
    return figure(
        bench, found["ours"], found["peer"], "steps/s", null=round(max(null, default=0.0), 4)
    )


def stall(root: Path, rounds: int) -> list[dict]:
    """What a checkpoint of 200 MB of state costs the loop, one worker."""
    results: dict[str, list[float]] = {}
    losses: dict[str, list[float]] = {}
    config = {"steps": 240, "work": 1, "state_mb": 200, "every": 60}
    for index in range(rounds):
        for how in ("none", "eksml", "torch.save", "dcp.async_save"):
            folder = root / f"stall-{how}-{index}"
            if how == "eksml":
                checkpoint = {"every_steps": config["every"], "keep": 2}
                notes = ours(folder, {**config, "save": how}, 1, checkpoint=checkpoint)
            elif how == "none":
                notes = ours(folder, {**config, "every": 0}, 1, checkpoint={"every_s": 3600})
            else:
                notes = peer(folder, {**config, "save": how}, 1)
            normal = statistics.median(notes["step_s"])
            at_save = [notes["step_s"][step] - normal for step in notes["saved_at"]]
            results.setdefault(how, []).append(statistics.median(at_save or [0.0]) * 1e3)
            losses.setdefault(how, []).append(sum(notes["step_s"]))
    base = statistics.median(losses["none"])
    loss = statistics.median(losses["eksml"]) / base - 1
    return [
        figure("stall", results["eksml"], results[how], f"ms, beside {how}", lower=True)
        for how in ("torch.save", "dcp.async_save")
    ] + [{"bench": "checkpoint_loss", "ours": round(loss, 4), "unit": "share of throughput"}]


def recovery(root: Path, rounds: int) -> dict:
    """Seconds from the kill of one of two workers to the next step, everything warm."""
    found: dict[str, list[float]] = {"ours": [], "peer": []}
    for side in ("ours", "peer"):
        folder = root / f"recovery-{side}"
        config = {"steps": 100_000, "work": 0, "pause_s": 0.05, "every": 20, "save": "eksml"}
        notes = folder / "notes"
        if side == "ours":
            import eksml

            notes.mkdir(parents=True)
            run = eksml.train(
                train_loop.fit,
                config={**config, "notes": str(notes)},
                workers=2,
                storage=folder,
                checkpoint={"every_steps": 20},
                max_failures=-1,
                wait=False,
            )
        else:
            process = start_peer(folder, {**config, "save": "torch.save"}, 2, rounds + 1)
        try:
            for _ in range(rounds):
                found[side].append(kill_and_wait(notes))
        except TimeoutError as error:
            # Seen with torchrun and gloo of torch 2.13: restarts that never connect again
            print(f"{side} did not recover: {error}", file=sys.stderr)
        finally:
            if side == "ours":
                run.cancel()
            else:
                process.terminate()
                process.wait()
    return figure("recovery", found["ours"], found["peer"], "s", lower=True)


def kill_and_wait(notes: Path) -> float:
    """Kill rank 1 after some steps; seconds until rank 0 of the next start has made one."""
    wait_for(lambda: beat(notes)[1] >= 60, 120)
    pid = beat(notes)[0]
    os.kill(int((notes / "rank1.pid").read_text()), signal.SIGKILL)
    began_s = time.time()
    wait_for(lambda: beat(notes)[0] != pid and beat(notes)[1] >= 1, 45)
    return beat(notes)[2] - began_s


def beat(notes: Path) -> tuple[int, int, float]:
    """Of rank 0: its pid, steps it made in this process, and when it made the first."""
    try:
        pid, steps, first_s = (notes / "rank0.beat").read_text().split()
    except (FileNotFoundError, ValueError):
        return 0, 0, 0.0
    return int(pid), int(steps), float(first_s)


def wait_for(condition, timeout_s: float) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError("the loop did not get there")
        time.sleep(0.02)


def figure(
    bench: str, ours: list[float], peer: list[float], unit: str, lower: bool = False, **more
) -> dict:
    a, b = (statistics.median(side) if side else None for side in (ours, peer))
    return {
        "bench": bench,
        "ours": a,
        "peer": b,
        "ratio": (b / a if lower else a / b) if a and b else None,
        "unit": unit,
        "ours_range": [min(ours), max(ours)] if ours else None,
        "peer_range": [min(peer), max(peer)] if peer else None,
        **more,
    }


def show(line: dict) -> None:
    """One JSON line, its figures to four places."""
    print(
        json.dumps(json.loads(json.dumps(line), parse_float=lambda x: round(float(x), 4))),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="speed alone, one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["speed", "stall", "recovery"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eksml-bench-") as folder:
        root = Path(folder)
        if options.only in (None, "stall") and not options.quick:
            for line in stall(root, options.rounds):
                show(line)
        if options.only in (None, "recovery") and not options.quick:
            show(recovery(root, options.rounds))
        if options.only in (None, "speed"):
            cores = len(os.sched_getaffinity(0))
            if not options.quick:
                show(speed(root, "train_all_cores", cores, options.rounds, 200))
            rounds, steps = (1, 80) if options.quick else (options.rounds, 200)
            show(speed(root, "train", max(1, cores // 2), rounds, steps))


if __name__ == "__main__":
    main()
