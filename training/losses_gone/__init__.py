"""Losses by paper: `heteroscedastic` (Bragman 2018)."""
