"""Training runs: train, export, budgets."""
