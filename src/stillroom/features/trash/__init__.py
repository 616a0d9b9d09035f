"""Trash: deleted images and runs, which can be restored for a while."""
