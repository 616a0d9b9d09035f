"""Settings of caches, the fast path and the server's connections."""

import re
from typing import Final, Literal

from pydantic import Field, SecretStr

from stillroom.errors import ConfigurationError
from stillroom.store.settings import MIB, Settings

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{16,}")


class SpeedSettings(Settings):
    """Settings of caches, the fast path and the server's connections."""

    list_cache_bytes: int = Field(default=64 * MIB, ge=0)
    """Bytes of memory per process for names in large folders; 0 reads the folder for every page.
    See docs/running.md#listings-of-large-folders."""

    response_cache_bytes: int = Field(default=64 * MIB, ge=0)
    """Bytes of memory in each process for images up to 64 KiB that are read again; 0: no cache."""

    max_connections: int = Field(default=4096, ge=1)
    """Maximum number of connections in each process; further connections get 503. Each connection
    needs 4 file descriptors, and everything else needs 256. With a hard limit (`ulimit -Hn`) below
    16640, fewer connections are possible, and the log contains a warning at the start."""

    max_head_bytes: int = Field(default=32 * 1024, ge=1024)
    """Maximum size of a request head (all header fields) in bytes; a larger head gets 431."""

    max_header_fields: int = Field(default=100, ge=10)
    """Maximum number of header fields in a request; more fields get 431."""

    max_target_bytes: int = Field(default=8 * 1024, ge=256)
    """Maximum length of a request target (path and query) in bytes; a longer target gets 414."""

    head_timeout_seconds: float = Field(default=10, gt=0)
    """Seconds to wait for a connection's first byte or a request's head; a late head gets 408."""

    min_body_bytes_per_second: int = Field(default=1024, ge=0)
    """Minimum speed of an upload. A body that is slower for 30 seconds gets 408."""

    idle_timeout_seconds: int = Field(default=65, ge=1)
    """Seconds that a connection stays open between requests. A reverse proxy needs a shorter
    timeout."""

    write_timeout_seconds: float = Field(default=60, gt=0)
    """Seconds after which a connection is closed if the client reads nothing of a response."""

    fast_path: bool = True
    """Handle simple requests without a web framework. The responses are the same. See
    docs/adr/0009-simple-requests-take-a-fast-path.md. The former name, `STILLROOM_SHORT_ROAD`, is
    still read."""

    sendfile: Literal["off", "x-accel"] = "off"
    """`x-accel`: nginx sends large images itself; see docs/deploying.md#bytes-from-nginx."""

    sendfile_key: SecretStr | None = None
    """Key that nginx sends in `X-Stillroom-Sendfile`. Required with `x-accel`. At least 16 letters
    and digits."""

    @property
    def proxy_key(self) -> bytes | None:
        """Key of a proxy that sends large images itself; None if the server sends all images."""
        if self.sendfile == "off":
            return None
        if self._has_bucket:
            raise ConfigurationError(
                "STILLROOM_SENDFILE is set, but images are in a bucket: unset it"
            )
        key = self.sendfile_key.get_secret_value() if self.sendfile_key else ""
        if not _KEY.fullmatch(key):
            raise ConfigurationError(
                f"STILLROOM_SENDFILE={self.sendfile} needs a key that only the proxy knows: set "
                "STILLROOM_SENDFILE_KEY to at least 16 letters and digits, and "
                "X-Stillroom-Sendfile to the same value in nginx's configuration"
            )
        return key.encode()
