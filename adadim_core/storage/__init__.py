"""The storage of runs, for workers and service alike: the layout of a run's folder, folders and object stores.

Owns file names (layout), addresses (address), requests to an object store and their retries (object_store), reading
what others may have written (reading), writing a file whole or not at all (atomic), and folders of one's own where
everyone may make some (own_folder). Imports no torch, and pyarrow only where an object store is used. When files move
is the workers' decision.
"""
