"""The page at `/`, for people: static files, and the route that serves them."""
