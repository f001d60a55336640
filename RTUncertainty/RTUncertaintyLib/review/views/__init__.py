"""Places, nested contours, regions and plots of a review in the views."""
