"""Bytes in few pieces at telling places: fast enough for a fuzzer, and still every kind of cut."""

import random


def pieces(data, seed, most=48):
    """Cut ``data`` into at most about ``most`` pieces: by ones for a while from a place that ``seed`` chooses, else at random.

    An odd seed cuts short data into single bytes.
    """
    if seed & 1 and len(data) <= most:
        return [data[at:at + 1] for at in range(len(data))]
    chance = random.Random(seed)
    first = chance.randrange(len(data) + 1)
    places = {0, len(data), *range(first, min(len(data), first + chance.randrange(most)))}
    places.update(chance.randrange(len(data) + 1) for _ in range(chance.randrange(most // 2)))
    places = sorted(places)
    return [data[a:b] for a, b in zip(places, places[1:], strict=False)]
