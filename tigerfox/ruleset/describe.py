"""Parts of a checked rule as text again, in the words of the rule language."""

from tigerfox.ruleset.rule import ByteExtract, ByteJump, ByteMath, ByteTest, Content, IsDataAt, Pcre, Size

_PLAIN = frozenset(range(32, 127)) - set(b'|";:\\')
_HEADERS = {"tcp_flags": "flags", "tcp_seq": "seq", "tcp_ack": "ack", "tcp_window": "window", "ip_id": "id",
            "frag_bits": "fragbits", "frag_off": "fragoffset", "ip_options": "ipopts", "same_ip": "sameip",
            "icmp_type": "itype", "icmp_code": "icode"}


def escaped(data, most=None):
    """Return bytes as a content has them: what is not plain stands as ``|0d 0a|``; beyond ``most`` bytes they are cut."""
    text, within = [], False
    for byte in data[:most]:
        plain = byte in _PLAIN
        if plain == within:
            text.append("|")
            within = not within
        elif within:
            text.append(" ")
        text.append(chr(byte) if plain else f"{byte:02x}")
    return "".join(text) + ("|" if within else "") + ("…" if most is not None and len(data) > most else "")


def condition_text(condition):
    """Return a header condition as text."""
    a, b = condition.a, condition.b
    name = _HEADERS.get(condition.field, condition.field)
    says = {"range": f"{a}" if a == b else f"{a} to {b}", "mask": f"{b:#x} of {a:#x}", "any": f"any of {a:#x}"}[condition.op]
    return f"{name}: {'not ' if condition.negated else ''}{says}"


def test_text(test):
    """Return a test of a buffer as text, as the rule language writes it."""
    return _TEXTS[type(test)](test, "!" if getattr(test, "negated", False) else "")


def flow_text(flow):
    """Return the flow keyword."""
    return "flow:" + ",".join(word for word in (flow.direction, flow.state, flow.data, flow.fragments) if word)


def flowbit_text(bit):
    """Return one flowbits keyword."""
    return f"flowbits:{bit.op},{'|'.join(bit.names)}"


def stream_size_text(size):
    """Return one stream_size keyword."""
    return f"stream_size:{size.side},{size.op},{size.size}"


def header_text(rule, name):
    """Return what a rule's head says of one of the Misfit names."""
    if name == "protocol":
        return rule.protocol
    fields = rule.text.split("(", 1)[0].split()
    order = ("", "", "source address", "source port", "", "destination address", "destination port")
    return fields[order.index(name)] if len(fields) == len(order) else name


def _content(test, negation):
    words = [f'content:{negation}"{escaped(test.pattern)}"', "nocase" if test.nocase else ""]
    if test.relative:
        words += [f"distance:{test.offset}", f"within:{test.depth}" if test.depth is not None else ""]
    else:
        words += [f"offset:{test.offset}" if test.offset else "", f"depth:{test.depth}" if test.depth is not None else ""]
    return "; ".join(word for word in [*words, "endswith" if test.endswith else ""] if word)


def _pcre(test, negation):
    return f'pcre:{negation}"/{test.pattern.decode("utf-8", "replace")}/{test.flags}{"R" if test.relative else ""}"'


def _data_at(test, negation):
    return f"isdataat:{negation}{test.at}{',relative' if test.relative else ''}"


def _size(test, negation):
    return f"bsize:{negation}{test.low}" + (f" to {test.high}" if test.high != test.low else "")


def _words(*words):
    return ",".join(str(word) for word in words if word not in ("", None))


def _ending(test):
    bases = {0: "", 8: "string,oct", 10: "string,dec", 16: "string,hex"}
    return ["relative" if test.relative else "", "little" if test.little else "", bases[test.base],
            f"bitmask {test.mask:#x}" if getattr(test, "mask", 0) else ""]


def _byte_test(test, negation):
    return "byte_test:" + _words(test.count, f"{negation}{test.op}", test.value, test.offset, *_ending(test))


def _byte_jump(test, negation):
    origin = "" if test.origin == "here" else f"from_{test.origin}"
    more = (f"multiplier {test.multiplier}" if test.multiplier > 1 else "", "align" if test.align else "", origin,
            f"post_offset {test.post_offset}" if test.post_offset else "")
    return "byte_jump:" + _words(test.count, test.offset, *_ending(test), *more)


def _byte_extract(test, negation):
    return "byte_extract:" + _words(test.count, test.offset, test.name, *_ending(test))


def _byte_math(test, negation):
    return "byte_math:" + _words(f"bytes {test.count}", f"offset {test.offset}", f"oper {test.op}", f"rvalue {test.operand}",
                                 f"result {test.name}", *_ending(test))


_TEXTS = {Content: _content, Pcre: _pcre, IsDataAt: _data_at, Size: _size, ByteTest: _byte_test, ByteJump: _byte_jump,
          ByteExtract: _byte_extract, ByteMath: _byte_math}
