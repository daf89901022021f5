"""What users do to experiments that exist: cancel, pause, resume, retry, delete, clone."""
