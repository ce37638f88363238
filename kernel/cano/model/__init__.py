"""The classes that users write workflows with: tasks, nodes, workflows, declarations. No asyncio, no pluggy."""
