"""Optional features around the core, each in one folder. `assembly.py` names them."""
