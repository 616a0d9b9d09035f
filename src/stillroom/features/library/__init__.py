"""Media library: database of images and videos that users want to keep."""
