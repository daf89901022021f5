"""The trials of a run together, on Ray Tune: which starts when, on which resources, with which values, until when.

Owns what Tune decides by. How one trial trains is the room trial's.
"""
