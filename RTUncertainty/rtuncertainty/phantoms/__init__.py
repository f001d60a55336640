"""Digital patients whose truth is known: a limb, pelves, and daily scans simulated from any planning CT."""
