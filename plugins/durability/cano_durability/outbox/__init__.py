"""Notices of runs that are stored before the commits that they are about, so that a crash loses none."""
