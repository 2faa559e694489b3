"""A whole instance in a namespace, as an operator starts it."""

import json
import subprocess
import sys
import time
from pathlib import Path

from tigerfox.errors import TigerFoxError

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "rules" / "bench-24.rules"
READY_SECONDS = 60


class Instance:
    """``tigerfox start`` in ``namespace``, with its files in ``folder``, until the block ends.

    ``settings`` is TOML below [paths], ``options`` are more of `start`; ``rules`` a rule file. ``chain``: it sends
    what is forwarded to its queues itself.
    """

    def __init__(self, namespace, folder, settings, *options, rules=RULES, chain=True):
        self.namespace, self.folder = namespace, folder
        self.log = folder / "log"
        config = folder / "tigerfox.toml"
        config.write_text(f'[paths]\nrun_dir = "{folder}/run"\nstate_dir = "{folder}/state"\n{settings}', encoding="utf-8")
        self._start = ["start", "--config", config, "--rules", rules, *(["--iptables"] if chain else []), *options]
        self.process = None

    def __enter__(self):
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = self.namespace.popen(sys.executable, "-m", "tigerfox", *self._start, cwd=ROOT, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS
        while "ready:" not in self.log.read_text(encoding="utf-8"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise TigerFoxError(f"the instance does not start: {self.log.read_text(encoding='utf-8')}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def worker_pid(self):
        """The process of its first worker."""
        return self.ask("status")["workers"][0]["pid"]

    def call(self, *arguments, codes=(0,)):
        """Run a verb on this instance; its standard output."""
        done = self.namespace.run(sys.executable, "-m", "tigerfox", *arguments, "--run-dir", f"{self.folder}/run", check=False)
        if done.returncode not in codes:
            raise TigerFoxError(done.stderr)
        return done.stdout

    def ask(self, *arguments, codes=(0,)):
        """Run a verb and return what it says as JSON."""
        return json.loads(self.call(*arguments, "--json", codes=codes))
