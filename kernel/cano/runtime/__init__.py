"""The engine's runtime: time, deadlines, worker threads, and how asyncio tasks end. It knows nothing of runs."""
