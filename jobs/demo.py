"""Train on a cluster, kill one of its nodes in the middle, and see that nothing was lost.

    python jobs/demo.py                  # what `make demo` runs; one to three minutes
    python jobs/demo.py --steps 3000     # give the kill more to interrupt

A cluster of a head and two workers starts on this machine. Two runs train on real handwritten
digits, with the same seed: one loses a node, with kill -9, and one is left alone. Their losses
have to be equal to the last bit. All that was started ends with this script; the runs stay.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from train_digits import HELD_OUT, fit

import eksml
from eksml.cluster import Head

if TYPE_CHECKING:
    from eksml.backends import Running

RUNS = Path(__file__).resolve().parent.parent / "runs"
WANTED_ACCURACY = 0.97
ENDED = ("succeeded", "failed", "cancelled", "interrupted")
STARTED_S = time.monotonic()


def say(text: str = "") -> None:
    """A line with the seconds since the start."""
    print(f"[{time.monotonic() - STARTED_S:4.0f} s] {text}" if text else "", flush=True)


def begin(name: str, running: Running, steps: int, storage: Path) -> eksml.Run:
    """Start a run on the cluster; it goes on while this script does other things."""
    return eksml.train(
        fit,
        config={"steps": steps},
        workers=2,
        cluster=running,
        storage=storage,
        name=name,
        checkpoint={"every_steps": 100},
        wait=False,
    )


def wait_for_step(run: eksml.Run, step: int) -> int:
    """Wait until a checkpoint of ``step`` or later is committed; gives its step."""
    said = ""
    while run.state not in ENDED:
        done = max((number for number, _ in run.checkpoints()), default=0)
        if done >= step:
            return done
        if (now := run.why()) != said:
            say(f"  {now}")
            said = now
        time.sleep(0.5)
    run.wait()
    sys.exit(f"The run ended before step {step}; ask for more with --steps.")


def train_with_a_kill(name: str, running: Running, steps: int, storage: Path) -> eksml.Run:
    """A run that loses a node a third of the way."""
    run = begin(name, running, steps, storage)
    done = wait_for_step(run, steps // 3)
    victim = next(node for node in running.nodes() if node.group == "workers")
    say(f"kill -9 of every process of node {victim.id}, as a power cut would (step {done})")
    running.kill(victim.id)
    run.wait()
    starts = sorted({int(line.split()[-1]) for line in run.logs() if "begins at step" in line})
    say(f"done: its workers began at step {', and again at step '.join(map(str, starts))}")
    return run


def verdict(killed: eksml.Run, calm: eksml.Run) -> bool:
    """Print what came of the two runs; whether it is as promised."""
    accuracy = killed.result()["accuracy"]
    same = killed.result() == calm.result() and killed.metrics().loss.equals(calm.metrics().loss)
    plot = Path(killed.uri.key) / "loss.png"
    killed.plot(plot)
    say()
    print(f"  accuracy     {accuracy:.2%} of {HELD_OUT} digits that it never saw")
    print(f"  the kill     {'left no trace: ' if same else 'CHANGED SOMETHING: '}", end="")
    print(f"final loss {killed.result()['loss']!r}, without the kill {calm.result()['loss']!r}")
    print(f"  receipt      {killed.receipt()}")
    print(f"  loss plot    {plot}")
    for step, folder in killed.checkpoints()[-1:]:
        print(f"  checkpoints  {folder.parent} (newest: step {step})")
    return same and accuracy >= WANTED_ACCURACY


def next_commands(run: eksml.Run) -> None:
    """What to try now."""
    print(f"""
Now try:
  source .venv/bin/activate
  eksml runs --storage {run.uri.parent}    # what ran, and how it ended
  eksml show {run.name} --storage {run.uri.parent}
  eksml up clusters/laptop.yaml                      # a cluster that stays
  eksml train jobs/train_digits.py --cluster laptop --workers 2
  eksml down laptop
  jobs/train_digits.py and notebooks/train_digits.ipynb are short: read them, change them""")


def main() -> int:
    """Show it all; the exit code is 0 if everything was as promised."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1200, help="steps of each run (default: 1200)")
    parser.add_argument("--storage", type=Path, default=RUNS, help="where to keep the runs")
    args = parser.parse_args()
    stamp = time.strftime("%m%d-%H%M%S")
    cluster = eksml.Cluster(
        name=f"demo-{stamp}",
        head=Head(cpus=0),
        groups=(eksml.cpu(name="workers", nodes=2, cpus=1),),
    )
    say("starting a cluster on this machine: a head and two workers")
    with cluster.up() as running:
        for node in running.nodes():
            say(f"  {node.id}: process {node.pid}")
        say(f"training on them, {args.steps} steps, a checkpoint every 100")
        killed = train_with_a_kill(f"digits-killed-{stamp}", running, args.steps, args.storage)
        say("the same training again, left alone, to compare")
        calm = begin(f"digits-calm-{stamp}", running, args.steps, args.storage).wait()
        good = verdict(killed, calm)
    next_commands(killed)
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nStopped; the cluster is down. What the runs had committed stays.", file=sys.stderr)
        sys.exit(130)
