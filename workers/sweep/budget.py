"""The time budget of an experiment: how long its attempts ran, all together. Owns the file that remembers it."""

import logging
import time

from workers.storage.folder import Storage, read_json

logger = logging.getLogger(__name__)

_WRITE_SECONDS = 5.0


class Budget:
    """Counts from its making on. A budget of None is never used up."""

    def __init__(self, minutes: float | None, storage: Storage) -> None:
        self.minutes = minutes
        self._storage = storage
        self._file = storage.elapsed
        self._before = float((read_json(self._file) or {}).get("seconds", 0.0)) if minutes is not None else 0.0
        self._began = time.monotonic()
        self._written = self._began
        self._write_failed = False

    @property
    def used_up(self) -> bool:
        return self.minutes is not None and self._seconds() >= self.minutes * 60

    @property
    def reason(self) -> str:
        """Why a trial is not trained on, for people."""
        return f"the time budget of {self.minutes:g} min is used up"

    def tick(self) -> None:
        """Remember the time spent so far, every few seconds."""
        if self.minutes is not None and time.monotonic() - self._written >= _WRITE_SECONDS:
            self.store()

    def store(self) -> None:
        """Remember the time spent so far. What cannot be written is not worth ending a run for."""
        if self.minutes is not None:
            self._written = time.monotonic()
            try:
                self._storage.write_json(self._file, {"seconds": round(self._seconds(), 1)})
                self._write_failed = False
            except OSError as error:
                if not self._write_failed:  # say it once
                    logger.warning("cannot write %s: %s; another attempt may take more time", self._file.name, error)
                self._write_failed = True

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._began
