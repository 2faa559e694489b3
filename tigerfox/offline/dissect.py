"""``tigerfox dissect``: the parser's view of a capture, one JSON object per packet."""

import sys

from tigerfox.dataplane.capture import Capture
from tigerfox.dataplane.dissect import lines
from tigerfox.offline.output import write_lines


def dissect(path, out=None, err=None):
    """Write one JSON line per packet of the capture at ``path``.

    ``out`` is a binary stream (default: standard output), ``err`` a text stream for warnings (default: standard error):
    where a capture is cut short it is read to the cut. Keys: ``n``, ``v``, ``src``, ``dst``, ``proto``, ``sport``,
    ``dport``, ``tcp_flags``, ``ttl``, ``ip_len``, ``frag_off`` (bytes), ``more_frags``, ``payload_len``, ``icmp_type``,
    ``icmp_code``, ``error`` (null or a reason's name), all of the outermost IP header and what follows it; null where
    it does not apply. Raises CaptureError for what is not a capture or of a link type that is not read.
    """
    out = sys.stdout.buffer if out is None else out
    err = sys.stderr if err is None else err
    capture = Capture(path)
    for text in lines(capture):
        write_lines(out, text)
    out.flush()
    for warning in (capture.cut, capture.unread):
        if warning:
            err.write(f"tigerfox: {warning}\n")
