"""Rows that kill their worker are told from those that only were beside them."""

from __future__ import annotations

import threading
import time

from eksml.batches.ledger import Key
from eksml.batches.tries import Tries
from eksml.storage import URI


def begin(tries: Tries, key: Key, *, alone: bool = False) -> None:
    with tries.turn(key, alone=alone):
        pass


def test_a_block_is_trusted_until_it_was_tried_twice(root: URI) -> None:
    tries = Tries(root, attempt=1)
    found = []
    for _ in range(3):
        found.append(tries.alone(Key(4)))
        begin(tries, Key(4))

    assert found == [None, None, 0]


def test_only_tries_alone_count_against_it(root: URI) -> None:
    tries = Tries(root, attempt=1)
    begin(tries, Key(4))
    begin(tries, Key(4))
    begin(tries, Key(4), alone=True)

    assert tries.alone(Key(4)) == 1
    assert tries.alone(Key(5)) is None


def test_tries_of_another_attempt_do_not_count(root: URI) -> None:
    for _ in range(3):
        begin(Tries(root, attempt=1), Key(4))

    assert Tries(root, attempt=2).alone(Key(4)) is None


def test_a_block_alone_has_the_worker_for_itself(tmp_path) -> None:
    tries = Tries(URI.parse(tmp_path), attempt=1)
    inside: list[str] = []
    seen: list[tuple[str, ...]] = []

    def work(key: Key, alone: bool) -> None:
        with tries.turn(key, alone=alone):
            inside.append("alone" if alone else "beside")
            time.sleep(0.02)
            seen.append(tuple(inside))
            inside.remove("alone" if alone else "beside")

    threads = [threading.Thread(target=work, args=(Key(n), n % 3 == 0)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 12
    assert all(set(others) == {"beside"} or others == ("alone",) for others in seen)
