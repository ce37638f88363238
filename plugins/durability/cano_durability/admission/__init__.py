"""Slots of limits that hold over all processes: asking for them, waiting, and giving them back."""
