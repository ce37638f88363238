"""The command's own subcommands. Each is imported only when it is chosen, since together they take most of the time."""

from __future__ import annotations

import importlib
from keyword import iskeyword
from typing import Any

import click

SUMMARIES = {
    "run": "Run a workflow.",
    "graph": "Draw a workflow, or the path of a run through it.",
    "validate": "Check a workflow without running it.",
    "plugins": "List all installed plugins, including blocked and broken ones, and the capabilities of their stores.",
    "runs": "List the runs in a store, by default the newest first.",
    "top": "Show live which runs are late, failed, running, parked or queued, until Ctrl-C.",
    "show": "Show a run: its status and the reason for it, its data, and its history.",
    "resume": "Resume a run and wait for its end.",
    "recover": "Find and resume runs that no process executes.",
    "submit": "Submit a run to the store, for `cano worker`.",
    "worker": "Execute the runs of workflows in a store, until SIGTERM or Ctrl-C.",
    "signal": "Send a signal to a run. If the run does not wait for it yet, the store keeps it.",
    "fork": "Create a run from an earlier step of another run.",
    "cancel": "Cancel a run permanently. A running one stops when its process next checks the store.",
    "explain": "Explain why a run is not progressing.",
    "events": "Show what happened to a run: transitions, retries, progress, waits, lateness, and its end.",
    "stream": "Show what the steps of a run have emitted to a channel. Without CHANNEL, list the run's channels.",
    "limits": "Show the limits that hold for all processes, with the runs that hold their slots or wait for one.",
    "audit": "Show who acted on a run from outside, and when: signals, cancellations, forks and the like.",
    "check": "Check the runs in a store.",
    "compat": "Find the unfinished runs that new code could not continue, before it is deployed.",
    "delete": "Delete a finished run, or one that cannot be read, with its history.",
    "prune": "Delete finished runs and their history.",
    "export": "Write a run into a file: its record, data, history and signals. `cano import` reads it.",
    "import": "Store a run that `cano export` has written into FILE; - for stdin. A missing store is created.",
    "migrate-store": "Copy all runs from the store SRC to the store DST, and compare each copy with its source.",
    "bench-store": "Measure the commits per second of the store at URL on this machine.",
}
"""Each command with the first sentence of its help, for the list of commands."""


class BuiltIn(click.Command):
    """A subcommand whose module is imported when it is chosen. The module and the function have its name.

    Options that a plugin appends to its `params` are appended to those of the real command then.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Import the command, which becomes the context's, and parse its arguments."""
        return self.imported().make_context(info_name, args, parent, **extra)

    def imported(self) -> click.Command:
        """Import and return the command, with the options that plugins added."""
        name = str(self.name).replace("-", "_")
        name += "_" * iskeyword(name)
        command: click.Command = getattr(importlib.import_module(f"cano_cli.{name}"), name)
        # the apps of a process share it, so an earlier app may have added the option already
        there = {option.name for option in command.params}
        command.params += [option for option in self.params if option.name not in there]
        return command
