"""Deploying new versions of workflows: which runs a program can continue, and which of the new ones it begins."""
