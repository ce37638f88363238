"""Inspecting stored runs: lists, histories, forks, explanations, problems, and deleting what is no longer needed."""
