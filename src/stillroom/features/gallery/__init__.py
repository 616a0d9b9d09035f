"""Gallery: the web page at `/` that shows stored images."""
