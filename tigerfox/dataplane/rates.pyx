"""threshold and detection_filter: counts per rule and address, shared by all workers."""

# What it owns
#   A mapped file (or anonymous shared memory) of trackers; one tracker is one window of one rule and the address it tracks.
#   The meaning of the four kinds is Suricata 7's ("Thresholding Keywords" of its manual), edges included:
#     a window starts with a match and lasts `seconds`, its last instant included; the next match after it starts another;
#     limit             the first `count` matches fire, the others only act
#     threshold         each count-th match fires, the others do nothing; the window goes on
#     both              the count-th match fires, later ones only act, earlier ones do nothing
#     detection_filter  matches after the count-th fire, the others do nothing
#     by_both           counts both directions between two addresses as one
#
# Layout
#   0        128                     192
#   | header | state: gauges (64)    | trackers of 64 bytes, 16 a bucket ...
#     tracker:  | sequence 32 | claim 32 | window: start 44, matches 20 bits | key 40 | spare 8 |
#
# Invariants
#   The key is compared in full and its sequence read again. A count is one exchange of one word: start and matches change
#   together, and two workers that count at once both count.
#   Times are microseconds modulo 2^44 (203 days): a window that was not touched for 101 days may be taken for a new one.
#
# Who may write what
#   Any process everything but `buckets`; key and sequence only under the claim (odd sequence).
#
# What happens when full or broken
#   Full bucket: the window that started first gives way; `displaced` counts it when it was not over. A claim holds for
#   CLAIM_SECONDS: a worker killed in the middle blocks one tracker that long. No tracker to be had (all sixteen just being
#   claimed): the match is judged as the first of a window, and `rejected` counts it. In the instant in which a tracker gives way,
#   one count may go to its successor; a worker that is stopped while it makes a tracker may bring a window to start again.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from tigerfox.dataplane.atomic cimport (atomic_add, exchange_if, fence_acquire, fence_release, load_acquire, load_relaxed,
                                        store_relaxed, store_release)
from tigerfox.dataplane.blockentry cimport entry_word, key_same, word_sequence, word_value
from tigerfox.dataplane.hashing cimport hash40
from tigerfox.dataplane.image cimport (RATE_BOTH, RATE_DETECTION_FILTER, RATE_LIMIT, RATE_THRESHOLD, TRACK_BOTH, TRACK_DESTINATION,
                                       TRACK_RULE, TRACK_SOURCE)
from tigerfox.dataplane.shared cimport SHARED_RATES

import time

from tigerfox.errors import SharedMemoryError

cdef enum:
    BUCKET = 16
    TRIES = 32                   # races lost before a match is judged without a tracker
    SPINS = 64                   # looks at a tracker that is just being written
    CLAIM_SECONDS = 2
    CLOCKS_APART = 5000000       # microseconds
    COUNT_BITS = 20
    COUNT_MOST = 0xfffff
    FREE = 0
    IN_USE = 1
    LAYOUT = 1
    TABLE_OFFSET = sizeof(SharedHeader) + sizeof(RateState)


# The window word

cdef inline uint64_t _window(uint64_t start, uint64_t count) noexcept nogil:
    return (start << COUNT_BITS) | count


cdef inline int64_t _age(uint64_t window, uint64_t now) noexcept nogil:
    """Microseconds since the window's start; negative when `now` comes before it."""
    return <int64_t>((now << COUNT_BITS) - (window & ~<uint64_t>COUNT_MOST)) >> COUNT_BITS


cdef inline bint _inside(uint64_t window, uint64_t now, uint32_t seconds) noexcept nogil:
    """Workers' clocks differ a little; a window far ahead is from before the clock was set back, and over."""
    cdef int64_t age = _age(window, now)
    return age >= -<int64_t>CLOCKS_APART and age <= <int64_t>seconds * 1000000


cdef inline uint32_t _most(const Rate *rate) noexcept nogil:
    return rate.count if rate.count < COUNT_MOST else COUNT_MOST


cdef RateAnswer _answer(const Rate *rate, uint32_t matches) noexcept nogil:
    """What the matches-th match of a window does."""
    cdef uint32_t count = _most(rate)
    if rate.kind == RATE_LIMIT:
        return RATE_FIRE if matches <= count or matches == 1 else RATE_ACT
    if rate.kind == RATE_DETECTION_FILTER:
        return RATE_FIRE if matches > count else RATE_SILENT
    if rate.kind == RATE_THRESHOLD:
        return RATE_FIRE if matches >= count else RATE_SILENT
    if matches > count:
        return RATE_ACT
    return RATE_FIRE if matches == count else RATE_SILENT


cdef RateAnswer _count_in(RateTracker *e, const Rate *rate, uint64_t now) noexcept nogil:
    """Count one match in a tracker's window."""
    cdef uint64_t seen, start
    cdef uint32_t matches
    cdef RateAnswer answer
    while True:
        seen = load_relaxed(&e.window)
        start, matches = now, 1
        if _inside(seen, now, rate.seconds):
            start = seen >> COUNT_BITS
            matches = (seen & COUNT_MOST) + 1 if (seen & COUNT_MOST) < COUNT_MOST else COUNT_MOST
        answer = _answer(rate, matches)
        if rate.kind == RATE_THRESHOLD and answer == RATE_FIRE:
            matches = 0
        if exchange_if(&e.window, seen, _window(start, matches)):
            return answer


# Keys and trackers

cdef void _key(RateKey *key, const Rate *rate, const FlowTuple *flow) noexcept nogil:
    cdef const uint8_t *low = &flow.src[0]
    cdef const uint8_t *high = &flow.dst[0]
    if memcmp(low, high, 16) > 0:
        low, high = high, low
    memset(key, 0, sizeof(RateKey))
    key.identity = rate.identity
    if rate.track == TRACK_RULE:
        return
    key.family = flow.version
    if rate.track == TRACK_SOURCE:
        memcpy(key.ends, flow.src, 16)
    elif rate.track == TRACK_DESTINATION:
        memcpy(key.ends, flow.dst, 16)
    else:
        memcpy(key.ends, low, 16)
        memcpy(key.ends + 2, high, 16)


cdef inline RateTracker *_bucket(RateTable *t, const RateKey *key) noexcept nogil:
    cdef uint64_t h = hash40(<const uint8_t *>key, t.header.keys)
    return t.entries + <size_t>(((h >> 32) * t.buckets) >> 32) * BUCKET


cdef bint _tracks(RateTracker *e, const RateKey *key) noexcept nogil:
    """Whether a tracker is this key's; waits a moment for one that is being written."""
    cdef uint64_t word
    cdef bint same
    cdef int i
    for i in range(SPINS):
        word = load_acquire(&e.word)
        if word & 1:
            continue
        if word_value(word) == FREE:
            return False
        same = key_same(<const FlowTuple *>&e.key, <const FlowTuple *>key)
        fence_acquire()
        if word_sequence(load_relaxed(&e.word)) == word_sequence(word):
            return same
    return False


cdef RateTracker *_find(RateTracker *bucket, const RateKey *key) noexcept nogil:
    cdef int i
    for i in range(BUCKET):
        if _tracks(bucket + i, key):
            return bucket + i
    return NULL


cdef inline bint _stale(uint64_t word, uint64_t now) noexcept nogil:
    """Whether a claim is so old that its process must be dead."""
    cdef int32_t age = <int32_t>(<uint32_t>(now // 1000000) - word_value(word))
    return age > CLAIM_SECONDS


cdef RateTracker *_oldest(RateTracker *bucket, uint64_t now, uint64_t *word) noexcept nogil:
    """A free tracker, or the one whose window started first, or one that a dead process had claimed."""
    cdef RateTracker *best = NULL
    cdef uint64_t seen
    cdef int i
    for i in range(BUCKET):
        seen = load_acquire(&bucket[i].word)
        if seen & 1 and not _stale(seen, now):
            continue
        if best == NULL or word_value(seen) == FREE or _age(bucket[i].window, now) > _age(best.window, now):
            best = bucket + i
            word[0] = seen
        if not seen & 1 and word_value(seen) == FREE:
            break
    return best


cdef bint _start(RateTracker *e, uint64_t word, const RateKey *key, uint64_t now) noexcept nogil:
    """Make a tracker with an empty window; False when another process was quicker."""
    cdef uint32_t sequence = (word_sequence(word) | 1) + (2 if word & 1 else 0)
    if not exchange_if(&e.word, word, entry_word(sequence, <uint32_t>(now // 1000000))):
        return False
    fence_release()
    memcpy(&e.key, key, sizeof(RateKey))
    store_relaxed(&e.window, _window(now, 0))
    return exchange_if(&e.word, entry_word(sequence, <uint32_t>(now // 1000000)), entry_word(sequence + 1, IN_USE))


cdef RateTracker *_tracker(RateTable *t, const Rate *rate, const RateKey *key, uint64_t now) noexcept nogil:
    """The tracker of a key, made when there is none; NULL when there is no place."""
    cdef RateTracker *bucket = _bucket(t, key)
    cdef RateTracker *e
    cdef uint64_t word = 0, window
    cdef int i
    for i in range(TRIES):
        e = _find(bucket, key)
        if e != NULL:
            return e
        e = _oldest(bucket, now, &word)
        if e == NULL:
            return NULL
        window = load_relaxed(&e.window)
        if _start(e, word, key, now):
            if word_value(word) == FREE:
                atomic_add(&t.state.used, 1)
            elif not word & 1 and _inside(window, now, rate.seconds):
                atomic_add(&t.state.displaced, 1)
    return NULL


cdef RateAnswer rate_count(RateTable *t, const Rate *rate, const FlowTuple *flow, uint64_t time_ns) noexcept nogil:
    cdef uint64_t now = time_ns // 1000
    cdef RateKey key
    cdef RateTracker *e
    if rate.kind == RATE_THRESHOLD and rate.count <= 1:
        return RATE_FIRE
    _key(&key, rate, flow)
    e = _tracker(t, rate, &key, now)
    if e != NULL:
        return _count_in(e, rate, now)
    atomic_add(&t.state.rejected, 1)
    return _answer(rate, 1)


# Public API

KINDS = {"limit": RATE_LIMIT, "threshold": RATE_THRESHOLD, "both": RATE_BOTH, "detection_filter": RATE_DETECTION_FILTER}
TRACKS = {"by_src": TRACK_SOURCE, "by_dst": TRACK_DESTINATION, "by_rule": TRACK_RULE, "by_both": TRACK_BOTH}
ANSWERS = {RATE_SILENT: "silent", RATE_FIRE: "fire", RATE_ACT: "act"}
DEFAULT_TRACKERS = 65536


cdef class Rates:
    """``Rates.create(path, trackers)`` makes a table (``path=None``: anonymous memory), ``Rates.open(path)`` maps one.

    Raises SharedMemoryError when a file is not a rate table of this version.
    """

    @staticmethod
    def create(path, trackers=DEFAULT_TRACKERS):
        cdef Rates rates = Rates.__new__(Rates)
        if not 1 <= trackers <= 1 << 24:
            raise ValueError(f"a rate table of {trackers} trackers cannot be made; choose 1 to {1 << 24}")
        buckets = -(-trackers // BUCKET)
        rates.region = Region.create(path, SHARED_RATES, LAYOUT, TABLE_OFFSET + buckets * BUCKET * sizeof(RateTracker))
        (<RateState *>(rates.region.base + sizeof(SharedHeader))).buckets = buckets
        rates._bind()
        return rates

    @staticmethod
    def open(path, bint writable=False):
        cdef Rates rates = Rates.__new__(Rates)
        rates.region = Region.open(path, SHARED_RATES, LAYOUT, writable)
        rates._bind()
        return rates

    def _bind(self):
        cdef RateState *state = <RateState *>(self.region.base + sizeof(SharedHeader))
        cdef uint64_t buckets = state.buckets if self.region.size >= TABLE_OFFSET else 0
        if not 0 < buckets <= 1 << 20 or TABLE_OFFSET + buckets * BUCKET * sizeof(RateTracker) != self.region.size:
            raise SharedMemoryError(f"{self.region.path}: {buckets} buckets do not fit its {self.region.size} bytes. "
                                    "Remove it and start the instance again.")
        self.table.header = self.region.header()
        self.table.state = state
        self.table.entries = <RateTracker *>(self.region.base + TABLE_OFFSET)
        self.table.buckets = <uint32_t>buckets

    def count(self, kind, track, uint32_t count, uint32_t seconds, uint32_t identity, bytes src, bytes dst, now=None):
        """Count one match and return "silent", "fire" or "act".

        ``kind`` and ``track`` are words of the rule language, ``src`` and ``dst`` packed addresses, ``now`` Unix seconds.
        Raises SharedMemoryError on a table opened for reading.
        """
        cdef Rate rate
        cdef FlowTuple flow
        if not self.region.writable:
            raise SharedMemoryError(f"{self.region.path}: mapped for reading only. Open it with writable=True.")
        memset(&rate, 0, sizeof(rate))
        memset(&flow, 0, sizeof(flow))
        rate.kind, rate.track = KINDS[kind], TRACKS[track]
        rate.count, rate.seconds, rate.identity = count, seconds, identity
        memcpy(flow.src, <const char *>src, min(len(src), 16))
        memcpy(flow.dst, <const char *>dst, min(len(dst), 16))
        flow.version = 4 if len(src) == 4 else 6
        microseconds = round((time.time() if now is None else now) * 1000000)
        return ANSWERS[rate_count(&self.table, &rate, &flow, <uint64_t>microseconds * 1000)]

    def counters(self):
        """Gauges and counters by name: used, size, displaced, rejected."""
        cdef RateState *s = self.table.state
        return {"used": s.used, "size": self.table.buckets * BUCKET, "displaced": s.displaced, "rejected": s.rejected}
