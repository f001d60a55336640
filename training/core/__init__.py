"""What every training stands on: splits, provenance, the base task, schedules, files."""
