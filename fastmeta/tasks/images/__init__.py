"""Folders, lists and arrays of images as tasks."""
