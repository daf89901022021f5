"""Logs: of drivers through Ray while their job is there and kept afterwards, of trials from the storage."""
