"""The `cano` command. Programs import nothing from here; plugins add commands through `cano_commands`."""
