"""The data of a run: typed keys, the store that tasks see, and a step's view of it, which makes steps atomic."""
