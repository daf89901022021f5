"""Logs of attempts: from Ray while the job is there, from the database afterwards."""
