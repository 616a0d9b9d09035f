"""Rules of HTTP as pure functions, without a web framework or a socket, for both paths."""
