"""Inspectors as they should not be, for bench/inspectors.py."""

import time


def sleeps(_packet):
    """Take 100 ms a packet."""
    time.sleep(0.1)


def raises(packet):
    """Fail on every packet."""
    raise ValueError(f"on purpose, at {packet.sport}")


def accepts(_packet):
    """Nothing wrong with it."""
