"""Does a rule hold in full: its chains of content, pcre, isdataat, bsize and byte_* over the buffers of a unit.

What it owns
    The compiled expressions, the memory of transformed buffers and the variables of one process for one rule set; freed
    with the InspectorHold.

Layout
    An inspection is a run of parts, a part a view (a buffer and its transforms) and a run of tests in the order of the rule's
    text. Tests hand a position on: where the last content, expression or number ended; relative tests count from there.

        inspect_parts ─▶ part_holds (one instance of the buffer is enough) ─▶ tests_hold ─▶ content, pcre, numbers.pyx

    A content or expression that a later bounded test counts from may have matched in the wrong place: when what follows
    fails, it is looked for behind there again. That is recursion, one frame for each such test. Its answers are three:
    YES, NO (an earlier test may try its next place), and NEVER (no other place of anything can help).

Invariants
    A part costs at most INSPECT_STEPS tests; an expression at most MATCH_LIMIT steps a search. Positions stay in 0..n.
    Where it stops at a bound, the rule does not match, as in Suricata, and a counter says so.

Who may write what
    The Inspector: its process, one inspection at a time.

What happens when full or broken
    Expressions are compiled on first use (a rule set has thousands, traffic meets few); one that PCRE2 refuses never
    matches; the compiler of the rules has tried each before. A buffer beyond INSPECT_MADE is transformed up to there.

Source: Suricata 7.0 user guide, "Payload keywords", and its behaviour; limits as in its default configuration.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memset

from tigerfox.dataplane.image cimport (
    RULE_VARIABLES, TEST_ALONE, TEST_AT_END, TEST_BASE64, TEST_BASE_OF_NEXT, TEST_BOUNDED, TEST_BYTES, TEST_CONTENT, TEST_DATA_AT,
    TEST_DEPTH_VARIABLE, TEST_EXTRACT, TEST_JUMP, TEST_MATH, TEST_NEGATED, TEST_NOCASE, TEST_OFFSET_VARIABLE, TEST_PCRE,
    TEST_RELATIVE, TEST_SIZE, VIEW_TRANSFORMS, CompiledRules, Expression, Inspection, Part, RuleSet, Test, Transform, View)
from tigerfox.dataplane.numbers cimport number_extract, number_jump, number_math, number_test
from tigerfox.dataplane.search cimport literal_find, literal_find_nocase
from tigerfox.dataplane.transform cimport base64_bytes, transform_bytes

cdef extern from *:
    """
    #define PCRE2_CODE_UNIT_WIDTH 8
    #include <pcre2.h>
    """
    ctypedef struct pcre2_code:
        pass
    ctypedef struct pcre2_match_data:
        pass
    ctypedef struct pcre2_match_context:
        pass
    ctypedef struct pcre2_jit_stack:
        pass
    pcre2_code *pcre2_compile(const uint8_t *pattern, size_t length, uint32_t options, int *error, size_t *offset,
                              void *context) noexcept nogil
    void pcre2_code_free(pcre2_code *code) noexcept nogil
    int pcre2_jit_compile(pcre2_code *code, uint32_t options) noexcept nogil
    int pcre2_match(const pcre2_code *code, const uint8_t *subject, size_t length, size_t start, uint32_t options,
                    pcre2_match_data *data, pcre2_match_context *context) noexcept nogil
    pcre2_match_data *pcre2_match_data_create(uint32_t pairs, void *context) noexcept nogil
    void pcre2_match_data_free(pcre2_match_data *data) noexcept nogil
    size_t *pcre2_get_ovector_pointer(pcre2_match_data *data) noexcept nogil
    pcre2_match_context *pcre2_match_context_create(void *context) noexcept nogil
    void pcre2_match_context_free(pcre2_match_context *context) noexcept nogil
    int pcre2_set_match_limit(pcre2_match_context *context, uint32_t limit) noexcept nogil
    int pcre2_set_depth_limit(pcre2_match_context *context, uint32_t limit) noexcept nogil
    pcre2_jit_stack *pcre2_jit_stack_create(size_t start, size_t most, void *context) noexcept nogil
    void pcre2_jit_stack_free(pcre2_jit_stack *stack) noexcept nogil
    void pcre2_jit_stack_assign(pcre2_match_context *context, void *callback, void *stack) noexcept nogil
    int pcre2_get_error_message(int error, uint8_t *buffer, size_t size) noexcept nogil
    int pcre2_config(uint32_t what, void *where) noexcept nogil
    int PCRE2_ERROR_NOMATCH, PCRE2_JIT_COMPLETE, PCRE2_CONFIG_VERSION
    uint32_t PCRE2_CASELESS, PCRE2_DOTALL, PCRE2_MULTILINE, PCRE2_EXTENDED, PCRE2_ANCHORED, PCRE2_DOLLAR_ENDONLY, PCRE2_UNGREEDY

cdef enum:
    MATCH_LIMIT = 3500           # Suricata: pcre.match-limit
    DEPTH_LIMIT = 1500           # pcre.match-limit-recursion
    JIT_STACK = 512 * 1024
    FAR = 100000000              # isdataat by a variable: what is beyond is not there

cdef enum Answer:
    NEVER = -1
    NO = 0
    YES = 1


# ---- content


cdef inline int64_t offset_of(const Inspector *i, const Test *t) noexcept nogil:
    return <int32_t>i.values[t.offset] if t.flags & TEST_OFFSET_VARIABLE else t.offset


cdef inline uint32_t depth_of(const Inspector *i, const Test *t) noexcept nogil:
    return <uint32_t>i.values[t.depth] if t.flags & TEST_DEPTH_VARIABLE else <uint32_t>t.depth


cdef bint content_window(const Inspector *i, const Test *t, uint32_t base, uint32_t *low, uint32_t *high) noexcept nogil:
    """Where a literal may lie: low <= x < high; False where there is no such place.

    Counted from `base` a bound before the buffer's start is none, as Suricata has it.
    """
    cdef int64_t first = offset_of(i, t), last = i.bytes.n
    if t.flags & TEST_RELATIVE:
        first += base
        if t.flags & TEST_BOUNDED:
            last = <int32_t><uint32_t>(first + depth_of(i, t))
            last = i.bytes.n if last < 0 else last
        first = 0 if first < 0 else first
    else:
        first = <uint32_t>first
        if t.flags & TEST_BOUNDED:
            last = first + depth_of(i, t)
    last = last if last < i.bytes.n else i.bytes.n
    if first > last or last == 0:
        return False
    low[0], high[0] = <uint32_t>first, <uint32_t>last
    return True


cdef const uint8_t *content_find(const Inspector *i, const RuleSet *rs, const Test *t, uint32_t low, uint32_t high) noexcept nogil:
    cdef const uint8_t *literal = rs.literals + t.literal
    if t.flags & TEST_AT_END:
        if high < i.bytes.n or high - low < t.length:
            return NULL
        low = low if t.flags & TEST_NEGATED else high - t.length
    if t.flags & TEST_NOCASE:
        return literal_find_nocase(i.bytes.data + low, high - low, literal, t.length, t.rare)
    return literal_find(i.bytes.data + low, high - low, literal, t.length, t.rare)


cdef Answer content_absent(const Inspector *i, const RuleSet *rs, const Test *t) noexcept nogil:
    """A negated content. With endswith, its first place in the window counts alone."""
    cdef uint32_t low, high
    cdef const uint8_t *found
    if not content_window(i, t, i.at, &low, &high):
        return YES
    found = content_find(i, rs, t, low, high)
    if found == NULL:
        return YES
    if t.flags & TEST_AT_END and <uint32_t>(found - i.bytes.data) + t.length != high - low:
        return YES
    return NEVER if t.flags & TEST_ALONE else NO


cdef Answer content_first(Inspector *i, const RuleSet *rs, const Test *t) noexcept nogil:
    """A content that nothing bounded counts from: its first place is as good as any."""
    cdef uint32_t low, high
    cdef const uint8_t *found
    if not content_window(i, t, i.at, &low, &high):
        return NO
    found = content_find(i, rs, t, low, high)
    if found == NULL:
        return NO if t.flags & TEST_RELATIVE else NEVER
    i.at = <uint32_t>(found - i.bytes.data) + t.length
    return YES


cdef Answer content_chain(Inspector *i, const RuleSet *rs, const Test *t, uint32_t left) noexcept nogil:
    """A content and what follows it: the next place when the rest does not hold behind this one."""
    cdef uint32_t low, high
    cdef const uint8_t *found
    cdef Answer answer
    if not content_window(i, t, i.at, &low, &high):
        return NO
    while True:
        found = content_find(i, rs, t, low, high) if low <= high else NULL
        if found == NULL:
            return NO if t.flags & TEST_RELATIVE else NEVER
        i.at = <uint32_t>(found - i.bytes.data) + t.length
        answer = tests_hold(i, rs, t + 1, left - 1)
        if answer != NO:
            return answer
        low = <uint32_t>(found - i.bytes.data) + 1
        if t.flags & TEST_AT_END:
            return NO if t.flags & TEST_RELATIVE else NEVER


# ---- pcre


cdef pcre2_code *expression_make(Inspector *i, const RuleSet *rs, uint32_t number) noexcept nogil:
    """Compile an expression on its first use; NULL where PCRE2 does not take it."""
    cdef const Expression *e = &rs.expressions[number]
    cdef pcre2_code *code
    cdef size_t offset = 0
    cdef int error = 0
    if i.refused[number]:
        return NULL
    code = pcre2_compile(rs.literals + e.text, e.length, e.options, &error, &offset, NULL)
    i.refused[number] = code == NULL
    if code != NULL:
        pcre2_jit_compile(code, PCRE2_JIT_COMPLETE)
    i.expressions[number] = <void *>code
    return code


cdef Answer expression_holds(Inspector *i, const RuleSet *rs, const Test *t) noexcept nogil:
    """One search, from `again` where that is set."""
    cdef uint32_t start = i.at if t.flags & TEST_RELATIVE else 0
    cdef pcre2_code *code = <pcre2_code *>i.expressions[t.literal]
    cdef size_t *place
    cdef int found
    if code == NULL:
        code = expression_make(i, rs, t.literal)
    if code == NULL or i.again and not start <= i.again <= i.bytes.n:
        return NO
    found = pcre2_match(code, i.bytes.data + start, i.bytes.n - start, i.again - start if i.again else 0, 0,
                        <pcre2_match_data *>i.match_data, <pcre2_match_context *>i.match_context)
    if found == PCRE2_ERROR_NOMATCH:
        return YES if t.flags & TEST_NEGATED else NO
    if found < 0:
        i.limits += 1
        return NO
    if t.flags & TEST_NEGATED:
        return NO
    place = pcre2_get_ovector_pointer(<pcre2_match_data *>i.match_data)
    i.at = start + <uint32_t>place[1]
    i.again = start + <uint32_t>place[0] + 1
    return YES


cdef Answer expression_chain(Inspector *i, const RuleSet *rs, const Test *t, uint32_t left) noexcept nogil:
    """An expression and what follows it: the next match when the rest does not hold behind this one."""
    cdef uint32_t base = i.at, again
    cdef Answer answer
    i.again = 0
    while True:
        answer = expression_holds(i, rs, t)
        if answer != YES:
            return answer
        again = i.again
        answer = tests_hold(i, rs, t + 1, left - 1)
        if answer != NO or again == 0:
            return answer
        i.at, i.again = base, again


# ---- the others


cdef Answer data_at(const Inspector *i, const Test *t) noexcept nogil:
    """isdataat: its place lies in the buffer, counted from the last match at most behind its last byte."""
    cdef uint64_t place = i.values[t.offset] if t.flags & TEST_OFFSET_VARIABLE else <uint64_t>t.offset
    cdef bint there, never = not t.flags & TEST_OFFSET_VARIABLE
    if place >= FAR and t.flags & TEST_OFFSET_VARIABLE:
        return YES if t.flags & TEST_NEGATED else NO
    if t.flags & TEST_RELATIVE:
        there = i.at + place <= i.bytes.n
        never = never and not t.flags & TEST_NEGATED
    else:
        there = place < i.bytes.n
    if there != (t.flags & TEST_NEGATED != 0):
        return YES
    return NEVER if never else NO


cdef inline Answer size_fits(const Inspector *i, const Test *t) noexcept nogil:
    cdef bint inside = <uint32_t>t.value <= i.bytes.n <= <uint32_t>(t.value >> 32)
    return YES if inside != (t.flags & TEST_NEGATED != 0) else NEVER


cdef Answer plain_test(Inspector *i, const RuleSet *rs, const Test *t) noexcept nogil:
    """A test that is done once, wherever the chain has come to."""
    if t.kind == TEST_CONTENT:
        return content_absent(i, rs, t) if t.flags & TEST_NEGATED else content_first(i, rs, t)
    if t.kind == TEST_PCRE:
        i.again = 0
        return expression_holds(i, rs, t)
    if t.kind == TEST_DATA_AT:
        return data_at(i, t)
    if t.kind == TEST_SIZE:
        return size_fits(i, t)
    if t.kind == TEST_BYTES:
        return YES if number_test(t, i.bytes.data, i.bytes.n, i.at, i.values) else NO
    if t.kind == TEST_JUMP:
        return YES if number_jump(t, i.bytes.data, i.bytes.n, &i.at, i.values) else NO
    if t.kind == TEST_EXTRACT:
        return YES if number_extract(t, i.bytes.data, i.bytes.n, &i.at, i.values) else NO
    return YES if number_math(t, i.bytes.data, i.bytes.n, &i.at, i.values) else NO


cdef Answer decoded_hold(Inspector *i, const RuleSet *rs, const Test *t, uint32_t left) noexcept nogil:
    """base64_decode, and the tests behind it in what it makes; what is outside is as before afterwards."""
    cdef Bytes outer = i.bytes
    cdef uint32_t at = i.at, used = i.decoded_used, n
    cdef uint32_t first = <uint32_t>t.offset + (at if t.flags & TEST_RELATIVE else 0)
    cdef Answer answer = NO
    if left > 1 and first < outer.n:
        n = outer.n - first
        if 0 < t.depth < <int64_t>n:
            n = <uint32_t>t.depth
        i.bytes.data = i.decoded + used
        i.bytes.n = base64_bytes(outer.data + first, n, i.decoded + used, INSPECT_DECODED - used)
        i.at = 0
        i.decoded_used = used + i.bytes.n
        if i.bytes.n:
            answer = tests_hold(i, rs, t + 1, left - 1)
        i.bytes, i.at, i.decoded_used = outer, at, used
    return YES if answer == YES else NO


cdef Answer tests_hold(Inspector *i, const RuleSet *rs, const Test *t, uint32_t left) noexcept nogil:
    """`left` tests from `t` on, from where the chain has come to."""
    cdef Answer answer, failed = NO
    while left:
        i.steps += 1
        if i.steps >= INSPECT_STEPS:
            i.steps_ended += i.steps == INSPECT_STEPS
            return NEVER
        if t.flags & TEST_BASE_OF_NEXT and left > 1 and (t.kind == TEST_PCRE or not t.flags & TEST_NEGATED):
            answer = expression_chain(i, rs, t, left) if t.kind == TEST_PCRE else content_chain(i, rs, t, left)
            return failed if answer == NO else answer
        if t.kind == TEST_BASE64:
            answer = decoded_hold(i, rs, t, left)
            return failed if answer == NO else answer
        answer = plain_test(i, rs, t)
        if answer != YES:
            return failed if answer == NO else answer
        if t.kind == TEST_CONTENT and not t.flags & TEST_NEGATED:
            failed = NEVER
        t += 1
        left -= 1
    return YES


# ---- parts


cdef Bytes view_bytes(Inspector *i, const RuleSet *rs, uint32_t view, Bytes raw) noexcept nogil:
    cdef const View *v = &rs.views[view]
    cdef Bytes made = raw
    cdef uint32_t at
    for at in range(VIEW_TRANSFORMS):
        if v.transform[at] == 0:
            break
        made.n = transform_bytes(<Transform>(v.transform[at] - 1), made.data, made.n, i.made, INSPECT_MADE)
        made.data = i.made
    return made


cdef bint part_holds(Inspector *i, const RuleSet *rs, const Part *part, BufferFetch fetch, void *who) noexcept nogil:
    cdef uint32_t index
    cdef Bytes raw
    for index in range(INSPECT_INSTANCES):
        if not fetch(who, rs.views[part.view].buffer, index, &raw):
            return False
        i.bytes = view_bytes(i, rs, part.view, raw)
        i.at = i.again = i.steps = i.decoded_used = 0
        if tests_hold(i, rs, &rs.tests[part.first_test], part.test_count) == YES:
            return True
    return False


cdef uint32_t tests_reach(Inspector *i, const RuleSet *rs, const Part *part) noexcept nogil:
    """The longest run of tests from the first on that holds in the bytes at hand; a bound ends it as well."""
    cdef uint32_t n
    for n in range(1, part.test_count + 1):
        i.at = i.again = i.steps = 0
        if tests_hold(i, rs, &rs.tests[part.first_test], n) != YES:
            return n - 1
    return part.test_count


cdef uint32_t part_reach(Inspector *i, const RuleSet *rs, const Part *part, BufferFetch fetch, void *who,
                         uint32_t *instances) noexcept nogil:
    cdef uint32_t reach, most = 0
    cdef Bytes raw
    instances[0] = 0
    while instances[0] < INSPECT_INSTANCES and fetch(who, rs.views[part.view].buffer, instances[0], &raw):
        instances[0] += 1
        i.bytes = view_bytes(i, rs, part.view, raw)
        reach = tests_reach(i, rs, part)
        most = max(most, reach)
        if reach == part.test_count:
            break
    return most


cdef bint inspect_parts(Inspector *i, const RuleSet *rs, const Inspection *inspection, BufferFetch fetch, void *who) noexcept nogil:
    cdef uint32_t n
    if inspection.variable_count:
        memset(i.values, 0, inspection.variable_count * sizeof(uint64_t))
    for n in range(inspection.part_count):
        if not part_holds(i, rs, &rs.parts[inspection.first_part + n], fetch, who):
            return False
    return True


# Public API


cdef class InspectorHold:
    """``InspectorHold(CompiledRules)``: what a process needs to inspect by these rules. Raises MemoryError."""

    def __cinit__(self, CompiledRules compiled not None):
        cdef Inspector *i = &self.inspector
        memset(i, 0, sizeof(Inspector))
        self.rules, self.expression_count = compiled, compiled.rules.expression_count
        i.expressions = <void **>calloc(self.expression_count + 1, sizeof(void *))
        i.refused = <uint8_t *>calloc(self.expression_count + 1, 1)
        i.made = <uint8_t *>malloc(INSPECT_MADE)
        i.decoded = <uint8_t *>malloc(INSPECT_DECODED)
        i.match_data = <void *>pcre2_match_data_create(1, NULL)
        i.match_context = <void *>pcre2_match_context_create(NULL)
        i.jit_stack = <void *>pcre2_jit_stack_create(32 * 1024, JIT_STACK, NULL)
        if (i.expressions == NULL or i.refused == NULL or i.made == NULL or i.match_data == NULL or i.match_context == NULL
                or i.jit_stack == NULL or i.decoded == NULL):
            raise MemoryError
        pcre2_set_match_limit(<pcre2_match_context *>i.match_context, MATCH_LIMIT)
        pcre2_set_depth_limit(<pcre2_match_context *>i.match_context, DEPTH_LIMIT)
        pcre2_jit_stack_assign(<pcre2_match_context *>i.match_context, NULL, i.jit_stack)

    def __dealloc__(self):
        cdef Inspector *i = &self.inspector
        cdef uint32_t n
        if i.expressions != NULL:
            for n in range(self.expression_count):
                if i.expressions[n] != NULL:
                    pcre2_code_free(<pcre2_code *>i.expressions[n])
        free(i.expressions)
        free(i.refused)
        free(i.made)
        free(i.decoded)
        if i.match_data != NULL:
            pcre2_match_data_free(<pcre2_match_data *>i.match_data)
        if i.match_context != NULL:
            pcre2_match_context_free(<pcre2_match_context *>i.match_context)
        if i.jit_stack != NULL:
            pcre2_jit_stack_free(<pcre2_jit_stack *>i.jit_stack)

    @property
    def counts(self):
        """How often an expression gave up at its bound, and an inspection at its own: (limits, steps_ended)."""
        return self.inspector.limits, self.inspector.steps_ended


cdef bint fetch_given(void *who, uint8_t buffer, uint32_t index, Bytes *out) noexcept nogil:
    """Instance `index` of a buffer out of a table of 256 lists."""
    cdef const uint32_t *starts = (<Given *>who).starts
    if starts[buffer] + index >= starts[buffer + 1]:
        return False
    out[0] = (<Given *>who).bytes[starts[buffer] + index]
    return True


cdef struct Given:
    const uint32_t *starts       # [257]
    const Bytes *bytes


def holds(InspectorHold hold not None, CompiledRules compiled not None, uint32_t number, buffers):
    """Whether what rule ``number`` looks for in buffers is there.

    ``buffers`` maps BufferId numbers to the bytes of one instance each, in a list. Headers, flow and scans are left out.
    """
    cdef uint32_t starts[257]
    cdef Given given
    cdef const uint8_t[::1] view
    cdef uint32_t count = 0
    cdef int buffer
    if number >= compiled.rules.rule_count or not compiled.rules.rules[number].inspection or hold.rules is not compiled:
        raise ValueError("no such rule, or it looks at headers alone")
    cdef Bytes *all_of_them = <Bytes *>calloc(1 + sum(len(instances) for instances in buffers.values()), sizeof(Bytes))
    if all_of_them == NULL:
        raise MemoryError
    for buffer in range(256):
        starts[buffer] = count
        for data in buffers.get(buffer, ()):
            view = data or b"\0"
            all_of_them[count].data, all_of_them[count].n = &view[0], len(data)
            count += 1
    starts[256] = count
    given.starts, given.bytes = starts, all_of_them
    cdef const Inspection *inspection = &compiled.rules.inspections[compiled.rules.rules[number].inspection - 1]
    cdef bint answer = inspect_parts(&hold.inspector, &compiled.rules, inspection, fetch_given, &given)
    free(all_of_them)
    return answer


cdef dict OPTIONS = {"i": PCRE2_CASELESS, "s": PCRE2_DOTALL, "m": PCRE2_MULTILINE, "x": PCRE2_EXTENDED, "A": PCRE2_ANCHORED,
                     "E": PCRE2_DOLLAR_ENDONLY, "G": PCRE2_UNGREEDY}


def expression_options(flags):
    """Return PCRE2's option bits for flag letters of i s m x A E G; raises KeyError for others."""
    cdef uint32_t options = 0
    for letter in flags:
        options |= <uint32_t>OPTIONS[letter]
    return options


def expression_error(bytes pattern not None, flags=""):
    """Return None where PCRE2 takes the expression, else what it says, and at which offset in bytes."""
    cdef size_t offset = 0
    cdef int error = 0
    cdef uint8_t text[256]
    cdef pcre2_code *code = pcre2_compile(pattern, len(pattern), expression_options(flags), &error, &offset, NULL)
    if code != NULL:
        pcre2_code_free(code)
        return None
    pcre2_get_error_message(error, text, sizeof(text))
    return f"{(<char *>text).decode('ascii', 'replace')} at offset {offset}"


def library():
    """Return the version of PCRE2."""
    cdef char text[64]
    pcre2_config(PCRE2_CONFIG_VERSION, text)
    return text.decode()
