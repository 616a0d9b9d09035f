"""How a Chromium is started for tests."""

FLAGS = [
    "--no-sandbox",  # tests run as root, where Chromium's own sandbox cannot
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
