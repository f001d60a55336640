"""One image to synthetic CT, structures and their uncertainty."""
