"""Leases and takeovers: which process executes a run, and who continues it when that process is gone."""
