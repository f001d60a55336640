"""Scenes and pictures without the application."""
