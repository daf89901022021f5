"""The Ray cluster as the service sees it: its Jobs REST API, and the local head on a laptop."""
