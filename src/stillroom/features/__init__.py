"""Optional features of the server, each in its own folder. `assembly.py` lists them."""
