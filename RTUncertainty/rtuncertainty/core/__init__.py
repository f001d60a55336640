"""What everything else stands on: errors, events, geometry, images, structures, surfaces."""
