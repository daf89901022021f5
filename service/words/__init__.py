"""Words: what clients need to show states, actions and metrics, so that none has a list of its own."""
