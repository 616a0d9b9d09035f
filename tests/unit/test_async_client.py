"""The asynchronous classes of the SDK are those that the script generates."""

import pytest

from scripts.async_client import CLIENT, FILES, generated


@pytest.mark.parametrize("source", FILES)
def test_a_generated_file_is_up_to_date(source: str) -> None:
    text = (CLIENT / FILES[source]).read_text("utf-8")

    assert text == generated(source), f"{source} was changed: run `make async-client`"
