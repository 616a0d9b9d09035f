"""Header parsers: format, size, duration and colour profile of images and videos."""
