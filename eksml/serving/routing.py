"""Which replica gets a request: the one that has computed the beginning of its prompt before.

HAProxy, which passes requests on, hashes the beginning of the body and looks up the replica that
the hash belongs to. What it takes for the beginning grows with the body, by a factor of four: all
that a long conversation says again with each of its requests lies in it, and a short question
behind a short instruction is told by the instruction alone. A conversation therefore meets another
replica at most whenever it has grown four times as long. Two prompts meet one replica if they have
the same beginning, and bodies of about the same length, and if their client writes whatever it
puts before the prompt in the same order, which all do.

A popular beginning does not overload its replica: none gets more than 15 % above the mean of what
is under way (consistent hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam, 2018). What
exceeds it goes to the next one in a fixed order, which then knows that beginning too. The price:
where all prompts begin alike, an eighth of what many replicas could do is left undone. Simulated,
with caches that together hold a quarter more than all beginnings, and four requests a replica under
way: 0.84 of them are found on two replicas and 0.62 on four, instead of 0.62 and 0.33 by the least
load; with 16 under way 0.93 and 0.77. (A bound of 25 % would find 0.96 and 0.87 of these, and leave
a fifth undone.)

A new replica takes over its share of the beginnings, and no others move. When one goes, HAProxy 2.8
numbers those after it anew, by which beginnings are dealt out: caches fill again in the course of
the next requests.

It holds for all that one Serve serves, since HAProxy takes it from Serve's environment alone.
Without HAProxy, Serve's own proxy gives a request to one of two replicas, whichever has less to do.
Ray's own router by prefixes, ``PrefixCacheAffinityRouter``, keeps a tree of all prompts; it works
in a Serve handle, and so needs one more process in Python on the way of each request.
"""

from __future__ import annotations

BEGINNINGS = (16_384, 4096, 1024, 256)
"""Bytes of the body that are hashed: the first of these that it has, else all."""
MOST_LOAD = 115
"""Percent of the mean that a replica may have under way."""
_POINTS = 100
"""Times 16 on the hash's circle for each replica. With HAProxy's 16 alone, one of two replicas
would own up to two thirds of it."""


def balance_algorithm() -> str:
    """For ``RAY_SERVE_HAPROXY_BALANCE_ALGORITHM``. Serve writes it into HAProxy's defaults, where
    what belongs to it follows in further lines."""
    lines = (
        f"hash '{_key()}'",
        "hash-type consistent",
        f"hash-balance-factor {MOST_LOAD}",
        f"default-server weight {_POINTS}",
        # Else the body is often not there yet. A body that no buffer holds passes as it comes
        "option http-buffer-request",
    )
    return "\n    ".join(lines)


def _key() -> str:
    """HAProxy has no way to cut a text at a length that depends on it, but regular expressions."""
    beginnings = "|".join(f"(.{{{size}}})" for size in BEGINNINGS)
    whichever = "".join(rf"\{number}" for number in range(1, len(BEGINNINGS) + 1))
    return f'req.body,regsub("(?s)^(?:{beginnings}).*","{whichever}")'
