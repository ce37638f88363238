"""Plugins: finding, ordering, blocking and isolating them."""
