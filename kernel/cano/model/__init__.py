"""What users write: tasks, nodes, workflows, keys and declarations. It needs neither asyncio nor pluggy."""
