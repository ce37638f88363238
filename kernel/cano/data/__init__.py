"""The data of a run: typed keys, the store that tasks get, and a step's view of it, which makes steps atomic."""
