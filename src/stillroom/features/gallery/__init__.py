"""Gallery: the web page at `/` that shows stored images, with its files and routes."""
