"""How often a trial raised in a run, and what at last: counted across the processes that train it in turn."""

from workers.context import RunContext
from workers.storage.folder import read_json


class Failures:
    """Those of one trial."""

    def __init__(self, context: RunContext, number: int) -> None:
        self._run = context.run
        self._storage = context.storage
        self._file = context.storage.failures(number)
        self._storage.fetch(self._file)
        stored = read_json(self._file) or {}
        known = stored if stored.get("run") == self._run else {}  # a new attempt starts the count again
        self.count: int = known.get("count", 0)
        self.account: str = known.get("account", "")
        """Of the last one."""

    def add(self, account: str) -> None:
        """The trial raised once more."""
        self.count, self.account = self.count + 1, account
        self._storage.write_json(self._file, {"run": self._run, "count": self.count, "account": account})
