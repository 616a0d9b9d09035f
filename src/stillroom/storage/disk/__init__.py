"""Disk backend: images as plain files in plain folders, durable across power cuts."""
