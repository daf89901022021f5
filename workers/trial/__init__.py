"""One trial: its run, its Ray processes, what it raised."""
