"""The `cano` command. Nothing here is to be imported by programs; plugins add commands with `cano_commands`."""
