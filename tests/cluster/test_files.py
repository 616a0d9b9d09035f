"""What `deploy/cluster` ships, where the cluster itself does not show it."""

import json
import re
from xml.etree import ElementTree as ET

import pytest

from cluster.deployment import shared_environment
from services.proxies import DEPLOY
from services.s3 import Operator
from services.seaweedfs import BUCKET
from stillroom.errors import ConfigurationError
from stillroom.settings import AllSettings
from stillroom.store.auth.choose import signing_secrets
from stillroom.store.auth.keys import check_secrets


def test_the_environment_file_holds_settings_alone_and_no_secret_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shipped = shared_environment({})
    for name, value in shipped.items():
        monkeypatch.setenv(name, value)
    settings = AllSettings.read()

    known = {name.upper() for name in AllSettings.model_fields}
    assert {name.removeprefix("STILLROOM_") for name in shipped} <= known
    secrets, _ = signing_secrets(settings.secret)
    with pytest.raises(ConfigurationError, match="32 bytes"):
        check_secrets(secrets)


def test_the_clusters_proxy_is_the_single_ones_but_for_what_is_about_several() -> None:
    def directives(name: str) -> set[str]:
        text = re.sub(r"#.*", "", (DEPLOY / name).read_text())
        return {" ".join(part.split()) for part in re.split(r"[;{}]", text) if part.strip()}

    one, several = directives("nginx.conf"), directives("cluster/nginx.conf")

    assert one - several == {"server 127.0.0.1:8000"}
    assert several - one == {
        "least_conn",
        "server 127.0.0.1:8001 fail_timeout=2s",
        "server 127.0.0.1:8002 fail_timeout=2s",
        "server 127.0.0.1:8003 fail_timeout=2s",
        "error_page 418 = @once",
        "if ($request_method = DELETE)",
        "return 418",
        "location @once",
        "proxy_next_upstream error timeout",
        "proxy_next_upstream_tries 2",
        "proxy_next_upstream_timeout 10s",
    }


@pytest.mark.slow
def test_the_lifecycle_rule_is_one_that_a_bucket_takes(operator: Operator) -> None:
    """In the form of `aws s3api put-bucket-lifecycle-configuration`; here as what that sends."""
    rules = json.loads((DEPLOY / "cluster/lifecycle.json").read_text())["Rules"]
    sent = ET.Element("LifecycleConfiguration")
    for rule in rules:
        _append(ET.SubElement(sent, "Rule"), rule)

    answer = operator.send("PUT", f"/{BUCKET}", query={"lifecycle": ""}, body=ET.tostring(sent))

    assert answer.status_code == 200, answer.text
    assert [rule.keys() & {"Expiration", "Transition"} for rule in rules] == [set()]


def _append(to: ET.Element, fields: dict[str, object]) -> None:
    for name, value in fields.items():
        child = ET.SubElement(to, name)
        if isinstance(value, dict):
            _append(child, value)
        else:
            child.text = str(value)
