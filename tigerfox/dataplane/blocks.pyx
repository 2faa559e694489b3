"""The connection-block table: who is blocked, until when, and why, for all processes at once."""

# What it owns
#   A mapped file (or anonymous shared memory) of fixed size. Any process looks up, inserts and removes without a lock.
#
# Layout
#   0        128                              320           320 + 64 * buckets
#   | header | state: gauges, counters (192) | tag lines   | entries                 |
#   A bucket is one tag line and 31 entries of 64 bytes:
#     tag line, 64 bytes:  | tag 0 | tag 1 | ... | tag 30 | overflow |     16 bits each; tag 0 means: no entry there
#     entry, 64 bytes:     | sequence 32 | expires or pid 32 | key 40 | sid 4 | since 4 | hits 4 | spare 4 |
#   The key has the shape of FlowTuple: addresses and ports in the order that the scope makes canonical (connection and pair:
#   the lower end first; source and destination: one address), the scope itself in the last 16 bits.
#   A key lives in its home bucket (upper half of its hash) or, where that is full, in one of the next seven; `overflow`
#   counts the entries that went past a bucket, so a look-up stops at the first bucket that nobody went past.
#   There are 4/3 as many entries as the capacity says: buckets stay three quarters full, and an absent key costs one line.
#
# Invariants
#   An entry is live when its sequence is even and `expires` lies ahead. A hash or tag never decides: the 40 bytes are
#   compared, and the sequence is read again afterwards; if it moved, what was read does not count.
#   Tags are written under the claim of their entry. Gauges count up before an entry is visible and down after it is gone:
#   a dead writer leaves them too high (a look-up more), never too low (a block missed).
#   `expires` shares a word with the sequence: prolonging is one exchange, without a moment in which the entry is absent.
#   Two processes that insert one key at once look again after publishing (full fence between), and whoever sees two
#   prolongs the lower slot to the later end, then frees the other.
#
# Who may write what
#   Entries, tags, overflow, gauges, counters: any process; an entry's content only who exchanged its sequence to odd.
#   `hits`: any process, by plain increment: two hits in the same instant may count as one.
#   Bucket count and capacity: the creator; afterwards each process uses its own copy, checked against the file's size.
#
# What happens when full or broken
#   Bucket and its seven neighbours full, or `capacity` entries in use: in the home bucket the entry that expires first gives
#   way (`displaced`); entries without end never do. Only such entries there: refused (`rejected`).
#   A writer killed in the middle leaves one entry with an odd sequence and its pid: nobody matches it, and the
#   supervisor's sweep takes it back when that pid is gone (`reclaimed`). All processes share one pid namespace.
#   Whatever stands in a damaged file: slots are computed from the hash and the process's own bucket count, never from content.
#
# Measured (bench/blocks.py; AMD EPYC, two shared cores, 4 KiB pages; a million entries, random keys)
#   An absent key costs 14 ns in batches and 29 to 52 ns alone; with all four scopes in use 48 ns. A present key costs 200 ns alone,
#   the price of one cache line of main memory behind nested page tables, and 31 ns when a batch asks together: so look-up
#   comes in three steps (ask, near, answer). A loop over the tag words instead of tag_bits: 90 ns for an absent key.

import socket
import time
from typing import NamedTuple

from libc.errno cimport ESRCH, errno as c_errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.signal cimport kill
from posix.unistd cimport getpid

from tigerfox.dataplane.atomic cimport (atomic_add, atomic_add16, exchange_if, fence_acquire, fence_full, fence_release,
                                        load_acquire, load_relaxed, load_relaxed16, load_relaxed32, lowest_bit, prefetch,
                                        store_relaxed16, store_relaxed32, store_release)
from tigerfox.dataplane.blockentry cimport (BLOCK_BUCKET, BLOCK_KEY, BLOCK_LINE, BlockState, bucket_next, entry_word, key_fill,
                                            key_same, probe_fill, probe_place, tag_bits, tag_line, tag_of, tag_place, word_live,
                                            word_sequence, word_value)
from tigerfox.dataplane.reason cimport R_BLOCKED_CONNECTION, R_NONE
from tigerfox.dataplane.shared cimport SHARED_BLOCKS, SharedHeader

from tigerfox.errors import SharedMemoryError

cdef enum:
    BUCKET = BLOCK_BUCKET
    OVERFLOW = BLOCK_BUCKET      # place of the overflow count in the tag line
    REACH = 8                    # buckets in which a key may lie
    READ_TRIES = 8               # an entry that changes more often while it is read does not match
    PLACE_TRIES = 64             # races lost before an insert gives up
    NO_SLOT = 0xffffffff
    TABLE_OFFSET = sizeof(SharedHeader) + sizeof(BlockState)
    LAYOUT = 1

cdef struct Found:
    uint32_t slot
    uint32_t sid
    uint64_t word                # as it was when the key was compared


# Finding

cdef inline bint _entry_holds(BlockEntry *e, const FlowTuple *key, Found *found) noexcept nogil:
    """Whether a stable entry has this key; `found` gets its word and sid from the same moment."""
    cdef uint64_t word
    cdef bint same
    cdef int i
    for i in range(READ_TRIES):
        word = load_acquire(&e.word)
        if word & 1 or word_value(word) == 0:
            return False
        same = key_same(&e.key, key)
        found.sid = e.sid
        fence_acquire()
        if word_sequence(load_relaxed(&e.word)) == word_sequence(word):
            found.word = word
            return same
    return False


cdef inline bint _bucket_find(BlockTable *t, const BlockProbe *p, uint32_t bucket, uint32_t but, Found *found) noexcept nogil:
    """Find the key in one bucket, in any slot but `but`."""
    cdef uint64_t bits = tag_bits(tag_line(t, bucket), p.tag)
    while bits:
        found.slot = bucket * BUCKET + tag_place(lowest_bit(bits))
        if found.slot != but and _entry_holds(t.entries + found.slot, &p.key, found):
            return True
        bits &= bits - 1
    return False


cdef inline bint _find(BlockTable *t, const BlockProbe *p, uint32_t but, Found *found) noexcept nogil:
    """Find the key in its bucket and in those that overflow may have brought it to. Live or expired."""
    cdef uint32_t bucket = p.home
    cdef uint32_t i
    for i in range(t.reach):
        if _bucket_find(t, p, bucket, but, found):
            return True
        if load_relaxed16(tag_line(t, bucket) + OVERFLOW) == 0:
            return False
        bucket = bucket_next(t, bucket)
    return False


cdef inline void _gauge(BlockTable *t, int scope, int64_t change) noexcept nogil:
    if 0 < scope < 5:
        atomic_add(&t.state.used[scope], <uint64_t>change)


cdef void _spill(BlockTable *t, uint32_t home, uint32_t bucket, int change) noexcept nogil:
    """Count an entry of `home` in or out on every bucket that it went past on its way to `bucket`."""
    cdef uint32_t steps = bucket - home if bucket >= home else bucket + t.buckets - home
    if steps >= t.reach:
        return
    while home != bucket:
        atomic_add16(tag_line(t, home) + OVERFLOW, <uint16_t>change)
        home = bucket_next(t, home)


# Claiming, freeing, prolonging: one exchange decides each

cdef inline bint _claim(BlockEntry *e, uint64_t word) noexcept nogil:
    """Take the entry if it still is as `word` says."""
    if not exchange_if(&e.word, word, entry_word(word_sequence(word) + 1, <uint32_t>getpid())):
        return False
    fence_release()
    return True


cdef bint _free(BlockTable *t, uint32_t slot, uint64_t word) noexcept nogil:
    """Free a stable entry if it still is as `word` says."""
    cdef BlockEntry *e = t.entries + slot
    cdef BlockProbe p
    if not _claim(e, word):
        return False
    p.key = e.key
    probe_place(t, &p)
    store_relaxed16(tag_of(t, slot), 0)
    store_release(&e.word, entry_word(word_sequence(word) + 2, 0))
    _gauge(t, p.key.zero, -1)
    _spill(t, p.home, slot // BUCKET, -1)
    return True


cdef void _publish(BlockTable *t, const BlockProbe *p, uint32_t slot, uint64_t word, const BlockEntry *wanted) noexcept nogil:
    """Write a claimed entry and let the others see it; `word` is from before the claim."""
    cdef BlockEntry *e = t.entries + slot
    _gauge(t, p.key.zero, 1)
    _spill(t, p.home, slot // BUCKET, 1)
    e.key = p.key
    e.sid = wanted.sid
    e.since = wanted.since
    e.hits = wanted.hits
    store_relaxed16(tag_of(t, slot), p.tag)
    store_release(&e.word, entry_word(word_sequence(word) + 2, word_value(wanted.word)))
    atomic_add(&t.state.inserted, 1)


cdef bint _prolong(BlockTable *t, const Found *found, uint32_t expires) noexcept nogil:
    """Let a live entry last until `expires` at least. False when it is no longer the same entry."""
    cdef BlockEntry *e = t.entries + found.slot
    cdef uint64_t word = found.word
    while word_sequence(word) == word_sequence(found.word):
        if word_value(word) >= expires:
            return True
        if exchange_if(&e.word, word, entry_word(word_sequence(word), expires)):
            atomic_add(&t.state.prolonged, 1)
            return True
        word = load_acquire(&e.word)
    return False


# Finding a place

cdef inline uint64_t _used(const BlockTable *t) noexcept nogil:
    cdef const uint64_t *used = t.state.used
    return used[<int>SCOPE_CONNECTION] + used[<int>SCOPE_SOURCE] + used[<int>SCOPE_DESTINATION] + used[<int>SCOPE_PAIR]


cdef uint32_t _claim_free(BlockTable *t, uint32_t bucket, uint64_t *word) noexcept nogil:
    """Claim a free slot of one bucket."""
    cdef uint64_t bits = tag_bits(tag_line(t, bucket), 0)
    cdef uint32_t slot
    while bits:
        slot = bucket * BUCKET + tag_place(lowest_bit(bits))
        word[0] = load_acquire(&t.entries[slot].word)
        if not word[0] & 1 and word_value(word[0]) == 0 and _claim(t.entries + slot, word[0]):
            return slot
        bits &= bits - 1
    return NO_SLOT


cdef uint32_t _claim_near(BlockTable *t, uint32_t home, uint64_t *word) noexcept nogil:
    """Claim a free slot in the home bucket or the nearest of its neighbours."""
    cdef uint32_t bucket = home
    cdef uint32_t slot, i
    for i in range(t.reach):
        slot = _claim_free(t, bucket, word)
        if slot != NO_SLOT:
            return slot
        bucket = bucket_next(t, bucket)
    return NO_SLOT


cdef uint32_t _first_to_expire(BlockTable *t, uint32_t bucket, uint64_t *word) noexcept nogil:
    """The entry of a bucket that expires first; NO_SLOT when none ever does."""
    cdef uint32_t best = NO_SLOT
    cdef uint32_t slot
    cdef uint64_t seen
    word[0] = entry_word(0, BLOCK_NEVER)
    for slot in range(bucket * BUCKET, bucket * BUCKET + BUCKET):
        seen = load_acquire(&t.entries[slot].word)
        if not seen & 1 and 0 < word_value(seen) < word_value(word[0]):
            best = slot
            word[0] = seen
    return best


cdef bint _make_room(BlockTable *t, uint32_t bucket, uint32_t now) noexcept nogil:
    """Free the entry of a bucket that expires first, and count it as what it was."""
    cdef uint64_t word
    cdef uint32_t slot = _first_to_expire(t, bucket, &word)
    if slot == NO_SLOT or not _free(t, slot, word):
        return False
    atomic_add(&t.state.displaced if word_live(word, now) else &t.state.expired, 1)
    return True


cdef uint32_t _place(BlockTable *t, uint32_t home, uint32_t now, uint64_t *word) noexcept nogil:
    """Claim a slot for a new entry; makes room where the table or the neighbourhood is full."""
    cdef uint32_t slot
    if _used(t) >= t.state.capacity:
        _make_room(t, home, now)
    slot = _claim_near(t, home, word)
    if slot == NO_SLOT and _make_room(t, home, now):
        slot = _claim_near(t, home, word)
    return slot


cdef void _settle(BlockTable *t, const BlockProbe *p, uint32_t slot) noexcept nogil:
    """Leave one entry of a key that two processes inserted at once: the lower slot, with the later end."""
    cdef Found mine, other
    cdef int i
    for i in range(PLACE_TRIES):
        fence_full()
        mine.slot = slot
        if not _find(t, p, slot, &other) or not _entry_holds(t.entries + slot, &p.key, &mine):
            return
        if other.slot < mine.slot:
            mine, other = other, mine
        if _prolong(t, &mine, word_value(other.word)) and _free(t, other.slot, other.word):
            if other.slot == slot:
                return


# The stage

cdef inline bint _holds(BlockTable *t, const BlockProbe *p, uint32_t now, uint32_t *sid) noexcept nogil:
    cdef Found found
    cdef uint32_t *hits
    if not _find(t, p, NO_SLOT, &found) or not word_live(found.word, now):
        return False
    if t.writable:
        hits = &t.entries[found.slot].hits
        store_relaxed32(hits, load_relaxed32(hits) + 1)
    sid[0] = found.sid
    return True


cdef void blocks_ask(BlockTable *t, const FlowTuple *flow, BlockAsk *ask) noexcept nogil:
    cdef int scope
    ask.count = 0
    if flow.version == 0 or _used(t) == 0:
        return
    for scope in range(1, 5):
        if t.state.used[scope]:
            probe_fill(t, scope, flow, &ask.probes[ask.count])
            prefetch(tag_line(t, ask.probes[ask.count].home))
            ask.count += 1


cdef void blocks_near(BlockTable *t, const BlockAsk *ask) noexcept nogil:
    cdef uint64_t bits
    cdef uint32_t i
    for i in range(ask.count):
        bits = tag_bits(tag_line(t, ask.probes[i].home), ask.probes[i].tag)
        if bits:
            prefetch(t.entries + <size_t>ask.probes[i].home * BUCKET + tag_place(lowest_bit(bits)))


cdef Reason blocks_answer(BlockTable *t, const BlockAsk *ask, uint32_t now, uint32_t *sid) noexcept nogil:
    cdef uint32_t i
    for i in range(ask.count):
        if _holds(t, &ask.probes[i], now, sid):
            return <Reason>(R_BLOCKED_CONNECTION + ask.probes[i].key.zero - SCOPE_CONNECTION)
    return R_NONE


cdef Reason blocks_lookup(BlockTable *t, const FlowTuple *flow, uint32_t now, uint32_t *sid) noexcept nogil:
    cdef BlockAsk ask
    blocks_ask(t, flow, &ask)
    return blocks_answer(t, &ask, now, sid)


cdef int blocks_insert(BlockTable *t, BlockScope scope, const FlowTuple *flow, uint32_t now, uint32_t expires,
                       uint32_t sid) noexcept nogil:
    cdef BlockEntry wanted
    if not SCOPE_NONE < scope <= SCOPE_PAIR:
        return 0
    key_fill(&wanted.key, scope, flow)
    wanted.word = entry_word(0, expires)
    wanted.sid = sid
    wanted.since = now
    wanted.hits = 0
    return blocks_put(t, &wanted, now)


cdef int blocks_put(BlockTable *t, const BlockEntry *wanted, uint32_t now) noexcept nogil:
    cdef BlockProbe p
    cdef int answer = 0
    if wanted.key.version != 4 and wanted.key.version != 6 or not word_live(entry_word(0, word_value(wanted.word)), now):
        return 0
    p.key = wanted.key
    probe_place(t, &p)
    answer = _put(t, &p, wanted, now)
    if answer == 0:
        atomic_add(&t.state.rejected, 1)
    return answer


cdef int _put(BlockTable *t, const BlockProbe *p, const BlockEntry *wanted, uint32_t now) noexcept nogil:
    """Prolong the entry of this key, or make one; again where another process was quicker."""
    cdef Found found
    cdef uint64_t word
    cdef uint32_t slot
    cdef int i
    for i in range(PLACE_TRIES):
        if not _find(t, p, NO_SLOT, &found):
            slot = _place(t, p.home, now, &word)
            if slot == NO_SLOT:
                return 0
            _publish(t, p, slot, word, wanted)
            _settle(t, p, slot)
            return 1
        if word_live(found.word, now):
            if _prolong(t, &found, word_value(wanted.word)):
                return 2
        elif _free(t, found.slot, found.word):
            atomic_add(&t.state.expired, 1)
    return 0


cdef int blocks_remove(BlockTable *t, BlockScope scope, const FlowTuple *flow) noexcept nogil:
    cdef BlockProbe p
    cdef Found found
    cdef int i, gone = 0
    probe_fill(t, scope, flow, &p)
    for i in range(PLACE_TRIES):
        if not _find(t, &p, NO_SLOT, &found):
            break
        gone += _free(t, found.slot, found.word)
    atomic_add(&t.state.removed, gone)
    return gone


cdef bint _reclaim(BlockTable *t, uint32_t slot, uint64_t word) noexcept nogil:
    """Free an entry whose writer is dead. Its gauge stays as the dead writer left it: too high by one at most."""
    cdef BlockEntry *e = t.entries + slot
    cdef int32_t pid = <int32_t>word_value(word)
    if pid > 0 and (kill(pid, 0) == 0 or c_errno != ESRCH):
        return False
    if not exchange_if(&e.word, word, entry_word(word_sequence(word) + 2, <uint32_t>getpid())):
        return False
    fence_release()
    store_relaxed16(tag_of(t, slot), 0)
    store_release(&e.word, entry_word(word_sequence(word) + 3, 0))
    atomic_add(&t.state.reclaimed, 1)
    return True


cdef uint32_t blocks_sweep(BlockTable *t, uint32_t now, uint32_t first, uint32_t count) noexcept nogil:
    cdef uint32_t slots = t.buckets * BUCKET
    cdef uint32_t last = first + count if count < slots and first < slots - count else slots
    cdef uint32_t slot, freed = 0, ended = 0
    cdef uint64_t word
    for slot in range(first, last):
        word = load_acquire(&t.entries[slot].word)
        if word & 1:
            freed += _reclaim(t, slot, word)
        elif word_value(word) and not word_live(word, now):
            ended += _free(t, slot, word)
    atomic_add(&t.state.expired, ended)
    return freed + ended


cdef bint blocks_read(BlockTable *t, uint32_t slot, BlockEntry *copy) noexcept nogil:
    cdef BlockEntry *e = t.entries + slot
    cdef int i
    for i in range(READ_TRIES):
        copy.word = load_acquire(&e.word)
        if copy.word & 1 or word_value(copy.word) == 0:
            return False
        copy.key = e.key
        copy.sid = e.sid
        copy.since = e.since
        copy.hits = e.hits
        fence_acquire()
        if word_sequence(load_relaxed(&e.word)) == word_sequence(copy.word):
            return True
    return False


# Public API

SCOPES = {"connection": SCOPE_CONNECTION, "source": SCOPE_SOURCE, "destination": SCOPE_DESTINATION, "pair": SCOPE_PAIR}
NEVER = <uint32_t>BLOCK_NEVER
DEFAULT_CAPACITY = 1 << 20
_SCOPE_NAMES = {number: name for name, number in SCOPES.items()}


class BlockRecord(NamedTuple):
    """One entry: ``scope`` by name, addresses as text (``dst`` empty for source and destination), times in Unix seconds.

    Both ends of a connection or a pair stand in canonical order, the lower address first. ``expires`` is NEVER for no end.
    """

    scope: str
    src: str
    dst: str
    sport: int
    dport: int
    proto: int
    expires: int
    since: int
    sid: int
    hits: int


cdef size_t _size_of(uint64_t buckets) noexcept:
    return TABLE_OFFSET + buckets * BLOCK_LINE + buckets * BUCKET * sizeof(BlockEntry)


cdef int _address_into(uint8_t *sixteen, text) except -1:
    """Write an address in network order and return 4 or 6."""
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        try:
            packed = socket.inet_pton(family, text)
        except OSError:
            continue
        memset(sixteen, 0, 16)
        memcpy(sixteen, <const char *>packed, len(packed))
        return version
    raise ValueError(f"{text!r} is not an IP address; write one such as 192.0.2.7 or 2001:db8::7")


cdef _address_text(const uint8_t *sixteen, int version):
    if version == 6:
        return socket.inet_ntop(socket.AF_INET6, sixteen[:16])
    return socket.inet_ntop(socket.AF_INET, sixteen[:4])


cdef int _flow_into(FlowTuple *flow, int scope, src, dst, int sport, int dport, int proto) except -1:
    """Fill a tuple from text. For the scope destination the address may stand in either place."""
    memset(flow, 0, BLOCK_KEY)
    if scope == SCOPE_DESTINATION and not dst:
        src, dst = dst, src
    one = src or dst
    flow.version = _address_into(flow.src, one)
    if _address_into(flow.dst, dst or one) != flow.version:
        raise ValueError(f"{src} and {dst} are of different IP versions; write two of the same")
    flow.sport, flow.dport, flow.proto = sport, dport, proto
    return 0


cdef _record(const BlockEntry *e):
    version = e.key.version
    two = e.key.zero in (SCOPE_CONNECTION, SCOPE_PAIR)
    return BlockRecord(_SCOPE_NAMES.get(e.key.zero, "damaged"), _address_text(e.key.src, version),
                       _address_text(e.key.dst, version) if two else "", e.key.sport, e.key.dport, e.key.proto,
                       word_value(e.word), e.since, e.sid, e.hits)


cdef class Blocks:
    """``Blocks.create(path, capacity)`` makes a table (``path=None``: anonymous memory), ``Blocks.open(path)`` maps one.

    ``capacity`` is in entries. Addresses are text, times Unix seconds (``now=None``: the clock), scopes the names in SCOPES.
    Raises SharedMemoryError when a file is not a block table of this version, ValueError for what is not an address.
    """

    @staticmethod
    def create(path, capacity=DEFAULT_CAPACITY):
        cdef Blocks blocks = Blocks.__new__(Blocks)
        if not 1 <= capacity <= 1 << 26:
            raise ValueError(f"a block table of {capacity} entries cannot be made; choose 1 to {1 << 26}")
        buckets = -(-capacity * 4 // (3 * BUCKET))
        blocks.region = Region.create(path, SHARED_BLOCKS, LAYOUT, _size_of(buckets))
        cdef BlockState *state = <BlockState *>(blocks.region.base + sizeof(SharedHeader))
        state.buckets = buckets
        state.capacity = capacity
        blocks._bind()
        return blocks

    @staticmethod
    def open(path, bint writable=False):
        cdef Blocks blocks = Blocks.__new__(Blocks)
        blocks.region = Region.open(path, SHARED_BLOCKS, LAYOUT, writable)
        blocks._bind()
        return blocks

    def _bind(self):
        cdef BlockTable *t = &self.table
        cdef BlockState *state = <BlockState *>(self.region.base + sizeof(SharedHeader))
        cdef uint64_t buckets = state.buckets if self.region.size >= TABLE_OFFSET else 0
        if not 0 < buckets < 1 << 26 or _size_of(buckets) != self.region.size:
            raise SharedMemoryError(f"{self.region.path}: {buckets} buckets do not fit its {self.region.size} bytes. "
                                    "Remove it and start the instance again.")
        t.header = self.region.header()
        t.state = state
        t.buckets = <uint32_t>buckets
        t.reach = REACH if buckets > REACH else t.buckets
        t.tags = <uint16_t *>(self.region.base + TABLE_OFFSET)
        t.entries = <BlockEntry *>(self.region.base + TABLE_OFFSET + buckets * BLOCK_LINE)
        t.writable = self.region.writable

    def must_write(self):
        """Raise SharedMemoryError when the table was opened for reading only."""
        if not self.table.writable:
            raise SharedMemoryError(f"{self.region.path}: mapped for reading only. Open it with writable=True.")

    @property
    def path(self):
        """The file, or None for anonymous memory."""
        return self.region.path

    @property
    def capacity(self):
        """Entries for which there is room."""
        return self.table.state.capacity

    @property
    def slots(self):
        """Slots to sweep."""
        return self.table.buckets * BUCKET

    def __len__(self):
        return _used(&self.table)

    def lookup(self, src, dst, int sport=0, int dport=0, int proto=0, now=None):
        """Return ``(scope, sid)`` of what blocks a packet with these fields, or None. Counts a hit as a worker does."""
        cdef FlowTuple flow
        cdef uint32_t sid = 0
        _flow_into(&flow, SCOPE_CONNECTION, src, dst, sport, dport, proto)
        reason = blocks_lookup(&self.table, &flow, _clock(now), &sid)
        return None if reason == R_NONE else (_SCOPE_NAMES[reason - R_BLOCKED_CONNECTION + 1], sid)

    def insert(self, scope, src="", dst="", int sport=0, int dport=0, int proto=0, uint32_t expires=BLOCK_NEVER,
               uint32_t sid=0, now=None):
        """Block until ``expires``; return 1 inserted, 2 prolonged or already so long, 0 refused (full, or in the past)."""
        cdef FlowTuple flow
        self.must_write()
        _flow_into(&flow, SCOPES[scope], src, dst, sport, dport, proto)
        return blocks_insert(&self.table, SCOPES[scope], &flow, _clock(now), expires, sid)

    def remove(self, scope, src="", dst="", int sport=0, int dport=0, int proto=0):
        """Take one key out; return whether it was there."""
        cdef FlowTuple flow
        self.must_write()
        _flow_into(&flow, SCOPES[scope], src, dst, sport, dport, proto)
        return blocks_remove(&self.table, SCOPES[scope], &flow) > 0

    def flush(self):
        """Take every entry out; return how many they were."""
        cdef uint32_t slot, gone = 0
        cdef uint64_t word
        self.must_write()
        with nogil:
            for slot in range(self.table.buckets * BUCKET):
                word = load_acquire(&self.table.entries[slot].word)
                if not word & 1 and word_value(word):
                    gone += _free(&self.table, slot, word)
            atomic_add(&self.table.state.removed, gone)
        return gone

    def sweep(self, now=None, uint32_t first=0, uint32_t count=0xffffffff):
        """Free what has expired or belonged to a dead writer in ``count`` slots from ``first`` on; return how many."""
        cdef uint32_t freed, clock = _clock(now)
        self.must_write()
        with nogil:
            freed = blocks_sweep(&self.table, clock, first, count)
        return freed

    def entries(self, now=None):
        """Yield a BlockRecord for every live entry."""
        cdef BlockEntry copy
        cdef uint32_t slot, clock = _clock(now)
        for slot in range(self.table.buckets * BUCKET):
            if blocks_read(&self.table, slot, &copy) and word_live(copy.word, clock):
                yield _record(&copy)

    def counters(self):
        """Gauges and counters by name: used, size, used_<scope>, inserted, prolonged, displaced, rejected, ..."""
        cdef BlockState *s = self.table.state
        counts = {"used": _used(&self.table), "size": s.capacity}
        counts.update((f"used_{name}", s.used[number]) for name, number in SCOPES.items())
        counts.update(inserted=s.inserted, prolonged=s.prolonged, displaced=s.displaced, rejected=s.rejected,
                      expired=s.expired, removed=s.removed, reclaimed=s.reclaimed)
        return counts

    def place(self, scope, src="", dst="", int sport=0, int dport=0, int proto=0):
        """Return (home bucket, tag) of a key: what the table's hash makes of it."""
        cdef FlowTuple flow
        cdef BlockProbe p
        _flow_into(&flow, SCOPES[scope], src, dst, sport, dport, proto)
        probe_fill(&self.table, SCOPES[scope], &flow, &p)
        return p.home, p.tag


cdef uint32_t _clock(now) except? 0:
    return <uint32_t>(time.time() if now is None else now)
