"""What the off-screen GUI tests share."""
