"""What a rule looks at beyond the headers, while it is read: chains of tests, one per buffer, in the order of the text.

As Suricata 7 has it: a sticky buffer holds until the next one or pkt_data; a modifier behind a content, or a letter of a pcre,
moves that one test into the chain of its buffer; all tests of one buffer are one chain, also when the rule comes back to it.
A buffer of several instances (buffers.MULTIPLE) makes a new chain each time it is named.
"""

from tigerfox.ruleset.buffers import BUFFERS, BY_NAME, MULTIPLE
from tigerfox.ruleset.rule import Content, Part, Refusal

MATCHES = frozenset(("content", "pcre"))
ANCHORS = frozenset(("content", "pcre", "byte_test", "byte_jump", "byte_extract", "byte_math", "isdataat"))


class Pattern:
    """A content while its modifiers are read; None where a modifier does not stand."""

    __slots__ = ("pattern", "negated", "nocase", "offset", "depth", "distance", "within", "startswith", "endswith", "fast",
                 "only", "raw")

    def __init__(self, pattern, negated):
        self.pattern, self.negated = pattern, negated
        self.nocase = self.startswith = self.endswith = self.only = self.raw = False
        self.offset = self.depth = self.distance = self.within = self.fast = None

    @property
    def relative(self):
        """Whether distance or within stands behind it."""
        return self.distance is not None or self.within is not None

    @property
    def absolute(self):
        """Whether depth, offset or startswith stands behind it."""
        return self.offset is not None or self.depth is not None or self.startswith

    def made(self):
        """Return the Content."""
        pattern = self.pattern.lower() if self.nocase else self.pattern
        if self.relative:
            offset, depth = self.distance or 0, self.within
        else:
            offset, depth = self.offset or 0, len(pattern) if self.startswith else self.depth
        return Content(pattern, self.nocase, self.negated, self.relative, offset, depth, self.endswith, self.fast)


class Step:
    """A test in a chain: its kind, what it tests (a Pattern, else the finished test of rule.py) and its option."""

    __slots__ = ("kind", "test", "option", "chain")

    def __init__(self, kind, test, option, chain):
        self.kind, self.test, self.option, self.chain = kind, test, option, chain


class Chain:
    """The tests of one buffer."""

    __slots__ = ("buffer", "transforms", "steps")

    def __init__(self, buffer, transforms):
        self.buffer, self.transforms, self.steps = buffer, transforms, []

    @property
    def row(self):
        """The buffer's row."""
        return BUFFERS[BY_NAME[self.buffer]]

    def patterns(self):
        """Yield the contents and the option of each."""
        return ((step.test, step.option) for step in self.steps if step.kind == "content")

    def made(self, decoded=None):
        """Return the Part. Behind a base64_decode come the tests of what it makes, and nothing else, as in Suricata 7."""
        kinds = [step.kind for step in self.steps]
        ends = kinds.index("base64_decode") + 1 if "base64_decode" in kinds else len(kinds)
        steps = self.steps[:ends] + (decoded.steps if decoded and ends and kinds[ends - 1] == "base64_decode" else [])
        return Part(self.buffer, tuple(step.test.made() if step.kind == "content" else step.test for step in steps),
                    self.transforms)


class Body:
    """The chains of a rule, and where the next test goes.

    ``sticky``: the buffer named last, None for the payload; ``opened``: the option that named it while no test has followed.
    ``decoded``: the chain in what base64_decode makes, None where there is none. ``steps``: every test in the order of the text.
    ``names``: variables that a byte_extract or byte_math has set; they hold in
    all chains. ``answered``: the option that named http.response_body, which is file.data of responses alone.
    """

    def __init__(self):
        self.chains, self.steps, self.names = [], [], set()
        self.decoded = self.answered = None
        self.sticky = self.chain = self.opened = None
        self.transforms = []

    def select(self, draft, buffer):
        """A sticky buffer (None: the payload again) holds from here on."""
        self.check_opened(draft)
        self.sticky, self.chain, self.transforms = buffer, None, []
        self.opened = draft.option if buffer else None

    def select_decoded(self, draft):
        """What base64_decode makes holds from here on; a rule has one chain in it."""
        if self.last(("base64_decode",)) is None:
            raise Refusal("no base64_decode stands before it; write base64_decode; base64_data; content:\"...\"")
        self.select(draft, "base64_data")
        self.decoded = self.chain = self.decoded or Chain("base64_data", ())

    def check_opened(self, draft):
        """Refuse a sticky buffer in which nothing is tested."""
        if self.opened is not None:
            message = "nothing is tested in this buffer; write content, pcre, bsize or the like behind it, or take it away"
            draft.refuse(Refusal(message), self.opened.offset, self.opened.name)
            self.opened = None

    def current(self):
        """Return the chain that a test belongs to here."""
        if self.chain is None:
            self.chain = self.chain_of(self.sticky or "payload", tuple(self.transforms), fresh=self.sticky in MULTIPLE)
        self.opened = None
        return self.chain

    def chain_of(self, buffer, transforms=(), fresh=False):
        """Return the chain of a buffer; ``fresh``: a new one."""
        if not fresh:
            for chain in reversed(self.chains):
                if chain.buffer == buffer and chain.transforms == transforms:
                    return chain
        self.chains.append(Chain(buffer, transforms))
        return self.chains[-1]

    def anchored(self, relative):
        """Return the chain of a test that may count from the match before it: without a sticky buffer it follows that."""
        if self.sticky is None and relative:
            last = self.last(ANCHORS)
            if last is not None:
                return last.chain
        return self.current()

    def add(self, kind, test, option, chain=None):
        """Put a test at the end of a chain (None: the current one)."""
        chain = chain or self.current()
        step = Step(kind, test, option, chain)
        chain.steps.append(step)
        self.steps.append(step)
        return step

    def move(self, step, buffer):
        """Put a test at the end of another buffer's chain; a chain that is left empty goes."""
        step.chain.steps.remove(step)
        if not step.chain.steps:
            self.chains.remove(step.chain)
            if self.chain is step.chain:
                self.chain = None
        step.chain = self.chain_of(buffer)
        step.chain.steps.append(step)

    def last(self, kinds, chain=None):
        """Return the last test of some kinds, in one chain or in all, or None."""
        for step in reversed(self.steps if chain is None else chain.steps):
            if step.kind in kinds:
                return step
        return None

    def before(self, step, kinds=MATCHES):
        """Return the test of some kinds that stands before `step` in its chain, or None."""
        steps = step.chain.steps
        for other in reversed(steps[:steps.index(step)]):
            if other.kind in kinds:
                return other
        return None

    def parts(self):
        """Return the Parts."""
        return tuple(chain.made(self.decoded) for chain in self.chains if chain.steps)
