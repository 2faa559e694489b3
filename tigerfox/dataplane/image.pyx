"""The compiled rule set as one block of bytes, and the check that it may be trusted.

What it owns
    Nothing: CompiledRules keeps the buffer (bytes, mmap of a memfd or of a file) alive and points into it.

Layout
    ImageHeader, then the sections of enum Section, each on a 64-byte boundary, each an array of one struct or integer:

        | header | rules | conditions | rates | patterns | slots | candidates | masks ... | sets | prefix tables |
        | inspections ─▶ parts ─▶ tests ─▶ literals, expressions | views ─▶ scans ─▶ databases, patterns ─▶ rules |

    Counts are lengths divided by element size; nothing is stored twice. All references are indexes.

Invariants
    bind() has looked at every index that the hot path follows: rules to conditions, rates, sets and inspections; slots to
    candidates, candidates to rules; class tables to masks; trie nodes to nodes and leaves; inspections to parts, parts to
    tests and views, tests to literals, expressions and variables; scans to databases, patterns and rules. After it, no
    look-up can leave the image. What a database holds is libhs's to check (scan.pyx).

Who may write what
    ruleset/compile.py writes an image through pack(); from bind() on it is immutable (workers map it read-only, from a
    sealed memfd).

What happens when full or broken
    A damaged image raises SharedMemoryError and is not used; the old rule set stays.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

import struct

from tigerfox.dataplane.blocks cimport SCOPE_PAIR
from tigerfox.dataplane.prefixes cimport PREFIX_LEAF, PREFIX_ROOT_SLOTS, PrefixNode, PrefixTable, RangeTable, popcount64
from tigerfox.errors import SharedMemoryError

IMAGE_MAGIC = int.from_bytes(b"TFRULES\0", "little")
IMAGE_LAYOUT = 4

cdef enum:
    ALIGNMENT = 64
    MAX_TRIE_DEPTH = 18          # of a node whose children are leaves: 16 + 18 * 6 = 124 bits lie above it

cdef size_t[<int>SECTION_COUNT] SIZES
SIZES[:] = [sizeof(Rule), sizeof(Condition), sizeof(Rate), sizeof(Pattern), sizeof(Slot), 4, 8, 8, 8, 8, 8, 8, 2, 4, 8, 2,
            4, 4, 4, sizeof(PrefixNode), 4, sizeof(Inspection), sizeof(Part), sizeof(Test), sizeof(BitStep), sizeof(SizeStep),
            sizeof(View), 1, sizeof(Expression), sizeof(Scan), sizeof(ScanPattern), 4, 1]


cdef class Checker:
    """Walks an image once; ``need`` raises with the name of what is wrong."""
    cdef const uint8_t *base
    cdef const ImageHeader *header
    cdef size_t size
    cdef RuleSet *rules

    cdef int need(self, bint holds, what) except -1:
        if not holds:
            raise SharedMemoryError(f"damaged rule set image: {what}. Compile the rules again (tigerfox reload).")
        return 0

    cdef const void *at(self, Section section) noexcept:
        return self.base + self.header.sections[<int>section].offset

    cdef size_t count(self, Section section) noexcept:
        return self.header.sections[<int>section].length // SIZES[<int>section]

    cdef int check_header(self) except -1:
        cdef int i
        cdef SectionPlace place
        self.need(self.size >= sizeof(ImageHeader), "shorter than its header")
        self.need(self.header.magic == <uint64_t>IMAGE_MAGIC, "not a rule set image")
        self.need(self.header.layout == <uint32_t>IMAGE_LAYOUT, "made by another version")
        self.need(self.header.size == self.size, "its length is not what it says")
        for i in range(<int>SECTION_COUNT):
            place = self.header.sections[i]
            self.need(place.offset % ALIGNMENT == 0 and place.offset <= self.size
                      and place.length <= self.size - place.offset and place.length % SIZES[i] == 0, f"section {i}")
        return 0

    cdef int bind_counts(self) except -1:
        cdef RuleSet *r = self.rules
        r.copy_range = self.header.copy_range
        r.rule_count = self.count(SECTION_RULES)
        r.pattern_count = self.count(SECTION_PATTERNS)
        r.address_classes = self.count(SECTION_SRC_MASKS)
        r.port_classes_used = self.count(SECTION_SPORT_MASKS)
        r.extra_classes_used = self.count(SECTION_EXTRA_MASKS)
        self.need(self.header.copy_range <= 65535, "copy range")
        self.need(self.count(SECTION_SET_STARTS) > 0, "no sets")
        r.set_count = self.count(SECTION_SET_STARTS) - 1
        r.inspection_count = self.count(SECTION_INSPECTIONS)
        r.expression_count = self.count(SECTION_EXPRESSIONS)
        r.view_count = self.count(SECTION_VIEWS)
        self.need(self.count(SECTION_SCANS) == <size_t>r.view_count * TRAFFIC_COUNT and r.view_count < 65536, "views")
        self.need(r.pattern_count <= IMAGE_PATTERNS and self.count(SECTION_PROTOCOL_MASKS) == 256, "patterns")
        self.need(self.count(SECTION_DST_MASKS) == r.address_classes and self.count(SECTION_DPORT_MASKS) == r.port_classes_used
                  and r.address_classes > 0 and r.port_classes_used > 0 and r.extra_classes_used > 0, "class masks")
        self.need(self.count(SECTION_EXTRA_CLASSES) == <size_t>EXTRA_COUNT * 256, "extra classes")
        self.need(self.count(SECTION_PORT_CLASSES) == 65536, "port classes")
        return 0

    cdef int bind_sections(self) except -1:
        cdef RuleSet *r = self.rules
        r.rules = <const Rule *>self.at(SECTION_RULES)
        r.conditions = <const Condition *>self.at(SECTION_CONDITIONS)
        r.rates = <const Rate *>self.at(SECTION_RATES)
        r.patterns = <const Pattern *>self.at(SECTION_PATTERNS)
        r.slots = <const Slot *>self.at(SECTION_SLOTS)
        r.candidates = <const uint32_t *>self.at(SECTION_CANDIDATES)
        r.protocol_masks = <const uint64_t *>self.at(SECTION_PROTOCOL_MASKS)
        r.src_masks = <const uint64_t *>self.at(SECTION_SRC_MASKS)
        r.dst_masks = <const uint64_t *>self.at(SECTION_DST_MASKS)
        r.sport_masks = <const uint64_t *>self.at(SECTION_SPORT_MASKS)
        r.dport_masks = <const uint64_t *>self.at(SECTION_DPORT_MASKS)
        r.extra_masks = <const uint64_t *>self.at(SECTION_EXTRA_MASKS)
        r.extra_classes = <const uint16_t *>self.at(SECTION_EXTRA_CLASSES)
        r.set_starts = <const uint32_t *>self.at(SECTION_SET_STARTS)
        r.intervals = <const uint32_t *>self.at(SECTION_INTERVALS)
        r.port_classes = <const uint16_t *>self.at(SECTION_PORT_CLASSES)
        self.bind_ranges(&r.v4, SECTION_V4_ROOT, SECTION_V4_CHUNKS)
        self.bind_trie(&r.v6, SECTION_V6_ROOT, SECTION_V6_NODES, SECTION_V6_LEAVES)
        r.inspections = <const Inspection *>self.at(SECTION_INSPECTIONS)
        r.parts = <const Part *>self.at(SECTION_PARTS)
        r.tests = <const Test *>self.at(SECTION_TESTS)
        r.bit_steps = <const BitStep *>self.at(SECTION_BIT_STEPS)
        r.size_steps = <const SizeStep *>self.at(SECTION_SIZE_STEPS)
        r.views = <const View *>self.at(SECTION_VIEWS)
        r.literals = <const uint8_t *>self.at(SECTION_LITERALS)
        r.expressions = <const Expression *>self.at(SECTION_EXPRESSIONS)
        r.scans = <const Scan *>self.at(SECTION_SCANS)
        r.scan_patterns = <const ScanPattern *>self.at(SECTION_SCAN_PATTERNS)
        r.scan_rules = <const uint32_t *>self.at(SECTION_SCAN_RULES)
        r.databases = <const uint8_t *>self.at(SECTION_DATABASES)
        return 0

    cdef int bind_ranges(self, RangeTable *t, Section root, Section chunks) except -1:
        """Point `t` at its sections and check that every chunk lies inside and names classes that are."""
        cdef size_t i, words = self.count(chunks)
        cdef uint32_t slot
        t.root = <const uint32_t *>self.at(root)
        t.chunks = <const uint32_t *>self.at(chunks)
        self.need(self.count(root) == <size_t>PREFIX_ROOT_SLOTS, "range root")
        for i in range(<size_t>PREFIX_ROOT_SLOTS):
            slot = t.root[i]
            if slot & <uint32_t>PREFIX_LEAF:
                self.need((slot ^ <uint32_t>PREFIX_LEAF) < self.rules.address_classes, "range root class")
            else:
                self.need(slot < words, "range root chunk")
                self.check_chunk(t.chunks + slot, words - slot)
        return 0

    cdef int check_chunk(self, const uint32_t *chunk, size_t words) except -1:
        cdef uint32_t count = (<const uint16_t *>chunk)[0], i
        cdef const uint32_t *classes = chunk + ((count + 2) >> 1)
        self.need(((<size_t>count + 2) >> 1) + count + 1 <= words, "range chunk")
        for i in range(count + 1):
            self.need(classes[i] < self.rules.address_classes, "range class")
        return 0

    cdef int bind_trie(self, PrefixTable *t, Section root, Section nodes, Section leaves) except -1:
        """Point `t` at its sections and check every index; children lie behind their parent, so walks end."""
        cdef size_t i, leaf_count = self.count(leaves), node_count = self.count(nodes)
        cdef const PrefixNode *n
        cdef uint32_t slot
        t.root = <const uint32_t *>self.at(root)
        t.nodes = <const PrefixNode *>self.at(nodes)
        t.leaves = <const uint32_t *>self.at(leaves)
        self.need(self.count(root) == <size_t>PREFIX_ROOT_SLOTS, "prefix root")
        for i in range(<size_t>PREFIX_ROOT_SLOTS):
            slot = t.root[i]
            if slot & <uint32_t>PREFIX_LEAF:
                self.need((slot ^ <uint32_t>PREFIX_LEAF) < self.rules.address_classes, "prefix root class")
            else:
                self.need(slot < node_count, "prefix root node")
        for i in range(leaf_count):
            self.need(t.leaves[i] < self.rules.address_classes, "prefix leaf class")
        for i in range(node_count):
            n = &t.nodes[i]
            self.need(not n.inner or (n.first_child > i and n.first_child + <uint64_t>popcount64(n.inner) <= node_count),
                      "prefix child")
            self.need(n.first_leaf + <uint64_t>popcount64(n.leaf_starts) <= leaf_count, "prefix leaf")
            self.need(not n.inner + 1 or (~n.inner & -~n.inner) & n.leaf_starts, "prefix leaf run")
        return self.check_depth(t, node_count)

    cdef int check_depth(self, const PrefixTable *t, size_t node_count) except -1:
        """No walk may be longer than an address: depth of a node is one more than its parent's."""
        cdef bytearray depths = bytearray(node_count)
        cdef uint8_t[:] depth = depths
        cdef size_t i, child
        for i in range(node_count):
            self.need(depth[i] < MAX_TRIE_DEPTH or not t.nodes[i].inner, "prefix depth")
            for child in range(t.nodes[i].first_child, t.nodes[i].first_child + popcount64(t.nodes[i].inner)):
                depth[child] = max(depth[child], depth[i] + 1)
        return 0

    cdef int check_rules(self) except -1:
        cdef size_t i
        cdef const Rule *rule
        cdef const Condition *c
        cdef RuleSet *r = self.rules
        cdef size_t conditions = self.count(SECTION_CONDITIONS), rates = self.count(SECTION_RATES)
        for i in range(r.rule_count):
            rule = &r.rules[i]
            self.need(<size_t>rule.first_condition + rule.condition_count <= conditions, "conditions of a rule")
            self.need(rule.rate <= rates and rule.action <= ACTION_ALERT and rule.block_scope <= <int>SCOPE_PAIR, "a rule")
            self.need(rule.inspection <= r.inspection_count and rule.inspector <= INSPECTORS, "inspection of a rule")
            self.need(rule.src_set <= r.set_count and rule.dst_set <= r.set_count
                      and rule.sport_set <= r.set_count and rule.dport_set <= r.set_count, "sets of a rule")
            self.need(not (rule.twin == TWIN_FIRST and i + 1 == r.rule_count) and not (rule.twin == TWIN_SECOND and i == 0),
                      "twin of a rule")
        for i in range(conditions):
            c = &r.conditions[i]
            self.need(c.field < <int>FIELD_COUNT and c.op < <int>OP_COUNT, "a condition")
        return 0

    cdef int check_index(self) except -1:
        cdef size_t i, slot_count = self.count(SECTION_SLOTS), candidate_count = self.count(SECTION_CANDIDATES)
        cdef const Pattern *pattern
        cdef RuleSet *r = self.rules
        for i in range(r.pattern_count):
            pattern = &r.patterns[i]
            r.files_sport |= pattern.dimensions >> <int>DIM_SPORT & 1
            self.need(not (<uint64_t>pattern.slot_mask + 1) & pattern.slot_mask
                      and <size_t>pattern.first_slot + pattern.slot_mask + 1 <= slot_count, "a pattern")
        for i in range(slot_count):
            self.need(<size_t>r.slots[i].first + r.slots[i].count <= candidate_count, "a slot")
        for i in range(candidate_count):
            self.need(r.candidates[i] < r.rule_count, "a candidate")
        for i in range(256):
            self.need(not r.pattern_count < 64 or not r.protocol_masks[i] >> r.pattern_count, "a protocol mask")
        return self.check_classes()

    cdef int check_classes(self) except -1:
        cdef size_t i, interval_count = self.count(SECTION_INTERVALS)
        cdef RuleSet *r = self.rules
        for i in range(r.set_count):
            self.need(r.set_starts[i] <= r.set_starts[i + 1], "a set")
        self.need(r.set_starts[r.set_count] <= interval_count, "intervals")
        for i in range(65536):
            self.need(r.port_classes[i] < r.port_classes_used, "a port class")
        for i in range(<size_t>EXTRA_COUNT * 256):
            self.need(r.extra_classes[i] < r.extra_classes_used, "an extra class")
        return 0

    cdef int check_inspections(self) except -1:
        cdef size_t i, parts = self.count(SECTION_PARTS), bits = self.count(SECTION_BIT_STEPS)
        cdef size_t sizes = self.count(SECTION_SIZE_STEPS), tests = self.count(SECTION_TESTS)
        cdef const Inspection *one
        cdef RuleSet *r = self.rules
        for i in range(r.inspection_count):
            one = &r.inspections[i]
            self.need(<size_t>one.first_part + one.part_count <= parts and <size_t>one.first_bit + one.bit_count <= bits
                      and <size_t>one.first_size + one.size_count <= sizes, "an inspection")
            self.need(one.unit <= <int>UNIT_TRANSACTION and one.payload <= <int>PAYLOAD_BOTH and one.side <= 2
                      and one.variable_count <= RULE_VARIABLES
                      and (one.scan_view == NO_VIEW or one.scan_view < r.view_count), "an inspection")
        for i in range(parts):
            self.need(r.parts[i].view < r.view_count
                      and <size_t>r.parts[i].first_test + r.parts[i].test_count <= tests, "a part")
        for i in range(bits):
            self.need(r.bit_steps[i].op <= <int>BIT_TOGGLE and (not r.bit_steps[i].more or i + 1 < bits), "a flow bit")
        for i in range(sizes):
            self.need(r.size_steps[i].side <= 3 and r.size_steps[i].op <= 5, "a stream size")
        for i in range(tests):
            self.check_test(&r.tests[i])
        return 0

    cdef int check_test(self, const Test *t) except -1:
        cdef RuleSet *r = self.rules
        self.need(t.kind < <int>TEST_COUNT and t.target < RULE_VARIABLES and t.base <= 16, "a test")
        if t.kind == TEST_CONTENT:
            self.need(t.length > 0 and t.rare < t.length
                      and <size_t>t.literal + t.length <= self.count(SECTION_LITERALS), "a literal")
        elif t.kind == TEST_PCRE:
            self.need(t.literal < r.expression_count, "an expression")
        elif t.kind == TEST_BASE64:
            self.need(t.depth >= 0 and t.offset >= 0, "a base64_decode")
        elif t.kind == TEST_BYTES:
            self.need(t.op < <int>BYTES_OP_COUNT, "a byte test")
        elif t.kind == TEST_MATH:
            self.need(t.op < <int>MATH_OP_COUNT, "a byte calculation")
        self.need(not t.flags & TEST_OFFSET_VARIABLE or 0 <= t.offset < RULE_VARIABLES, "a variable")
        self.need(not t.flags & TEST_DEPTH_VARIABLE or 0 <= t.depth < RULE_VARIABLES, "a variable")
        self.need(not t.flags & TEST_COUNT_VARIABLE or t.count < RULE_VARIABLES, "a variable")
        self.need(not t.flags & TEST_VALUE_VARIABLE or t.value < RULE_VARIABLES, "a variable")
        return 0

    cdef int check_views(self) except -1:
        cdef size_t i, at, databases = self.count(SECTION_DATABASES), patterns = self.count(SECTION_SCAN_PATTERNS)
        cdef size_t rules = self.count(SECTION_SCAN_RULES), literals = self.count(SECTION_LITERALS)
        cdef const Scan *scan
        cdef RuleSet *r = self.rules
        for i in range(self.count(SECTION_SCANS)):
            scan = &r.scans[i]
            self.need(<size_t>scan.database + scan.length <= databases and scan.needed_count <= SCAN_NEEDED
                      and <size_t>scan.first_pattern + scan.pattern_count <= patterns, "a scan")
        for i in range(r.view_count):
            self.need(r.views[i].buffer < <int>BUF_COUNT and (not i or r.views[i].buffer >= r.views[i - 1].buffer), "a view")
            for at in range(VIEW_TRANSFORMS):
                self.need(r.views[i].transform[at] <= <int>TRANSFORM_COUNT, "a transform")
        for i in range(patterns):
            self.need(<size_t>r.scan_patterns[i].first + r.scan_patterns[i].count <= rules, "a scan pattern")
        for i in range(rules):
            self.need(r.scan_rules[i] < r.rule_count, "a rule of a scan")
        for i in range(r.expression_count):
            self.need(<size_t>r.expressions[i].text + r.expressions[i].length <= literals, "an expression")
        return 0

    cdef bint passes_flows(self) noexcept:
        """Whether a pass rule lets the rest of a flow by other rules."""
        cdef size_t i
        cdef bint passes = False, others = False
        for i in range(self.rules.rule_count):
            passes = passes or self.rules.rules[i].action == ACTION_PASS and not self.rules.rules[i].condition_count
            others = others or self.rules.rules[i].action != ACTION_PASS
        return passes and others

    cdef int bind_needs(self) noexcept:
        """What the rules need beyond packets, and which views a buffer has; everything was checked."""
        cdef size_t i, at = 0
        cdef RuleSet *r = self.rules
        for i in range(<size_t>BUF_COUNT + 1):
            while at < r.view_count and r.views[at].buffer < i:
                at += 1
            r.view_first[i] = <uint16_t>at
        r.needs_flows = r.inspection_count > 0 or self.passes_flows()
        for i in range(r.inspection_count):
            if r.inspections[i].unit == UNIT_TRANSACTION or r.inspections[i].apps or r.inspections[i].apps_not:
                r.needs_apps = r.needs_streams = True
            if r.inspections[i].size_count or r.inspections[i].part_count and r.inspections[i].payload != PAYLOAD_PACKET:
                r.needs_streams = True
        return 0


cdef class CompiledRules:
    """``CompiledRules.from_buffer(buffer, generation)`` checks an image and binds it; raises SharedMemoryError.

    ``buffer`` is bytes, an mmap or a memoryview of one image; it is kept alive and must not change any more.
    """

    @staticmethod
    def from_buffer(buffer, uint32_t generation=0):
        cdef CompiledRules compiled = CompiledRules.__new__(CompiledRules)
        cdef Checker checker = Checker()
        PyObject_GetBuffer(buffer, &compiled._view, PyBUF_SIMPLE)
        compiled._bound = True
        compiled._buffer = buffer
        memset(&compiled.rules, 0, sizeof(RuleSet))
        checker.base = <const uint8_t *>compiled._view.buf
        checker.header = <const ImageHeader *>checker.base
        checker.size = compiled._view.len
        checker.rules = &compiled.rules
        checker.check_header()
        checker.bind_counts()
        checker.bind_sections()
        checker.check_rules()
        checker.check_index()
        checker.check_inspections()
        checker.check_views()
        checker.bind_needs()
        compiled.rules.generation = generation
        return compiled

    def __dealloc__(self):
        if self._bound:
            PyBuffer_Release(&self._view)

    @property
    def generation(self):
        """The number that the supervisor gave this rule set."""
        return self.rules.generation

    @property
    def rule_count(self):
        """Rules in the image; a ``<>`` rule counts twice."""
        return self.rules.rule_count

    @property
    def copy_range(self):
        """Bytes of each packet that have to be copied from the kernel for these rules."""
        return self.rules.copy_range

    @property
    def needs(self):
        """What these rules need beyond single packets, of "flows", "streams" and "apps"."""
        return {name for name, wanted in (("flows", self.rules.needs_flows), ("streams", self.rules.needs_streams),
                                          ("apps", self.rules.needs_apps)) if wanted}

    @property
    def view_count(self):
        """Buffers, each with its transforms, that these rules look into."""
        return self.rules.view_count

    @property
    def size(self):
        """Bytes of the image."""
        return self._view.len


def pack(sections, int copy_range):
    """Return an image made of ``sections``, byte strings in the order of enum Section."""
    if len(sections) != <int>SECTION_COUNT:
        raise ValueError(f"an image has {<int>SECTION_COUNT} sections")
    places, parts = [], []
    offset = aligned(sizeof(ImageHeader))
    parts.append(bytes(offset - sizeof(ImageHeader)))
    for section in sections:
        places += [offset, len(section)]
        parts += [section, bytes(aligned(len(section)) - len(section))]
        offset += aligned(len(section))
    head = struct.pack(f"<QIIQ{len(places)}Q", IMAGE_MAGIC, IMAGE_LAYOUT, copy_range, offset, *places)
    return b"".join([head, *parts])


cdef size_t aligned(size_t length) noexcept:
    return (length + ALIGNMENT - 1) & ~<size_t>(ALIGNMENT - 1)
