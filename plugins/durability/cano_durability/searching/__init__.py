"""Search attributes of runs: how commits change them, and the conditions of filters."""
