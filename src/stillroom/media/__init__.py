"""Media library: database of the images and videos to keep."""
