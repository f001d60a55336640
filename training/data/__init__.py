"""What a training reads: prepared cases as patches of slices."""
