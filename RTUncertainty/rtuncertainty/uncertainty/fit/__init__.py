"""What calibrations are fitted by: on validation patients (training), on a clinic's own (commissioning)."""
