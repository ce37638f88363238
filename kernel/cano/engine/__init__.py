"""The engine: it binds a workflow and executes one run. `ports.py` is what it asks of others."""
