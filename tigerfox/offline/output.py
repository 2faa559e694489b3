"""Lines that Ctrl-C does not cut, for the verbs that print as long as a capture lasts."""

import select


def write_lines(out, text):
    """Write ``text``, whole lines as bytes, to the binary stream ``out``, buffered or not.

    As many lines go at once as a pipe takes entirely or not at all (pipe(7), PIPE_BUF): a signal in the middle of a
    larger write would end it there, and what the caller still had would be lost.
    """
    at = 0
    while at < len(text):
        end = text.rfind(b"\n", at, at + select.PIPE_BUF) + 1 or len(text)
        out.write(text[at:end])
        at = end
