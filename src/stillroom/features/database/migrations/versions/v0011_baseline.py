"""Tables of Stillroom 0.3, which all migrations start from. This version cannot create them."""

from typing import Final

revision: Final = "0011"
down_revision: Final = None
