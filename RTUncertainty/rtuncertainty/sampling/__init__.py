"""Samples of a network: slices, volumes and pairs in tiles, moments that are accumulated as samples come."""
