"""One trial: its training and files (run), its Ray processes (actor, distributed), what it raised (failures).

Knows of no other trial.
"""
