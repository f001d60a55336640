"""From patients as they come to prepared cases."""
