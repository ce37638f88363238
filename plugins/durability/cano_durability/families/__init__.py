"""Parents and children in the store: parents that are parked while a child of theirs is."""
