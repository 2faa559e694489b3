"""A target's seeds and words, as libFuzzer reads them: a file for each seed, a dictionary of words."""

import hashlib
import importlib
import os
from pathlib import Path


def write():
    """Write seeds() to the folder TIGERFOX_FUZZ_SEEDS and WORDS to the file TIGERFOX_FUZZ_WORDS."""
    target = importlib.import_module(os.environ["TIGERFOX_FUZZ_TARGET"])
    for one in target.seeds():
        (Path(os.environ["TIGERFOX_FUZZ_SEEDS"]) / hashlib.sha1(one).hexdigest()[:12]).write_bytes(one)
    words = dict.fromkeys(word for word in getattr(target, "WORDS", ()) if 0 < len(word) <= 60)
    lines = ["# words of this target\n"]                     # libFuzzer refuses an empty file
    lines += ('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words)
    Path(os.environ["TIGERFOX_FUZZ_WORDS"]).write_text("".join(lines))
