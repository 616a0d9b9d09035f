"""Core of the server: storage backends, permissions, settings and HTTP operations on images."""
