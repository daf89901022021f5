"""The audit: who did what, kept when what it was done to is gone. Its rows are written by service/database/audit.py."""
