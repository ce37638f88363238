"""Finding the runs that take longer than their workflow expects."""
