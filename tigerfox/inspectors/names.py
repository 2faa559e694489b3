"""Domain names among others."""

from collections.abc import Container


def is_within(name: str, names: Container[str]) -> bool:
    """Whether a name, or one that it stands below, is among ``names``; all in small letters."""
    labels = name.split(".")
    return any(".".join(labels[at:]) in names for at in range(len(labels)))
