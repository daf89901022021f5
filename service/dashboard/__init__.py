"""The web dashboard: static files, no build step."""
