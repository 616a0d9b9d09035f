"""Faults of `auth`: tokens, prefixes, signed URLs, sign-in codes and key sets."""

from typing import Final

from mutations.fault import Fault

TOKENS: Final = "tests/unit/test_tokens.py"
KEY_SETS: Final = "tests/unit/test_jwks.py"
SIGNED_URLS: Final = "tests/unit/test_signed_urls.py"
CODES: Final = "tests/unit/test_sign_in_codes.py"

FAULTS: Final = (
    Fault(
        "tokens: one is good for a minute more",
        "auth/tokens.py",
        "        if token.expires <= self._now():\n",
        "        if token.expires + 60 <= self._now():\n",
        (TOKENS,),
    ),
    Fault(
        "tokens: an empty prefix is none",
        "auth/tokens.py",
        'if "prefix" in claims else Grant(scopes)',
        "if folder else Grant(scopes)",
        (TOKENS,),
    ),
    Fault(
        "tokens: an empty scope allows everything",
        "auth/tokens.py",
        '        if "scope" in claims or not self._keys.unscoped_may_all:\n',
        "        if scope or not self._keys.unscoped_may_all:\n",
        (TOKENS,),
    ),
    Fault(
        "tokens: those of another issuer are taken",
        "auth/tokens.py",
        "                    issuer=self._issuer,\n",
        "",
        (TOKENS,),
    ),
    Fault(
        "tokens: a previous secret is not accepted",
        "auth/choose.py",
        "    return [current, *config.previous], is_new\n",
        "    return [current], is_new\n",
        ("tests/unit/test_keys.py", "tests/acceptance/test_starting.py", "-k", "old_one"),
    ),
    Fault(
        "prefixes: a folder covers what begins like it",
        "auth/grants.py",
        'ImagePath.parse(folder.removesuffix("/")).text + "/")',
        'ImagePath.parse(folder.removesuffix("/")).text)',
        (TOKENS,),
    ),
    Fault(
        "prefixes: a listing above the folder shows all",
        "auth/grants.py",
        "            return ImagePrefix(self.folder)\n",
        "            return prefix\n",
        (TOKENS,),
    ),
    Fault(
        "prefixes: a confined token has the whole library",
        "auth/grants.py",
        "        self.require_scope(scope)\n        if self.folder:\n",
        "        self.require_scope(scope)\n        if not self.scopes:\n",
        ("tests/acceptance/test_media_permissions.py",),
    ),
    Fault(
        "prefixes: a token does not cover its own folder as a run",
        "auth/grants.py",
        'f"{folder.text}/".startswith(self.folder)',
        "folder.text.startswith(self.folder)",
        (TOKENS,),
    ),
    Fault(
        "tokens: a checked one is remembered beyond its end",
        "auth/verified.py",
        "Verified(grant, min(expires, self._now() + CACHE_S))",
        "Verified(grant, self._now() + CACHE_S)",
        ("tests/unit/test_verified.py",),
    ),
    Fault(
        "tokens: long ones are remembered, too",
        "auth/verified.py",
        "        if len(authorization) <= _LONGEST:\n",
        "        if authorization:\n",
        ("tests/unit/test_verified.py",),
    ),
    Fault(
        "signed URLs: they do not end",
        "auth/signed_urls.py",
        " or int(expires) <= self._now():\n",
        ":\n",
        (SIGNED_URLS,),
    ),
    Fault(
        "signed URLs: other parameters are not signed",
        "auth/signed_urls.py",
        'b"GET", raw_path, others, expires, kid)',
        'b"GET", raw_path, expires, kid)',
        (SIGNED_URLS,),
    ),
    Fault(
        "signed URLs: a previous secret is not accepted",
        "auth/signed_urls.py",
        "dict(reversed(keys))",
        "dict(keys[:1])",
        (SIGNED_URLS,),
    ),
    Fault(
        "signed URLs: they do more than read",
        "auth/signed_urls.py",
        'Grant(frozenset(["storage:read"]))',
        'Grant(frozenset(["storage:read", "storage:write"]))',
        (SIGNED_URLS,),
    ),
    Fault(
        "signed URLs: who may not read an image gets one",
        "api/signed_urls.py",
        '        grant.require("storage:read", image_path)\n',
        "",
        ("tests/acceptance/test_signed_urls.py", "-k", "only_who"),
    ),
    Fault(
        "sign-in codes: one is good twice",
        "auth/sign_in_codes.py",
        "            is_valid = _is_valid(file)\n            file.unlink()\n",
        "            is_valid = _is_valid(file)\n",
        (CODES,),
    ),
    Fault(
        "sign-in codes: they do not end",
        "auth/sign_in_codes.py",
        "return abs(age_s) < CODE_LIFE.total_seconds()",
        "return age_s is not None",
        (CODES,),
    ),
    Fault(
        "sign-in codes: each device is remembered for a month",
        "api/sign_in.py",
        "_REMEMBERED_LIFE if body.remember else _TOKEN_LIFE",
        "_REMEMBERED_LIFE",
        ("tests/acceptance/test_sign_in.py", "-k", "lasts"),
    ),
    Fault(
        "key sets: a key for encryption is taken for one that signs",
        "auth/jwks.py",
        'entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":',
        'entry.get("alg", algorithm) != algorithm:',
        (KEY_SETS,),
    ),
    Fault(
        "key sets: redirects are followed",
        "auth/jwks.py",
        "follow_redirects=False",
        "follow_redirects=True",
        (KEY_SETS,),
    ),
    Fault(
        "key sets: each unknown key causes a fetch",
        "auth/jwks.py",
        "        if previous is not None and now - previous < UNKNOWN_KEY_S:\n",
        "        if previous is not None and now < previous:\n",
        (KEY_SETS,),
    ),
    Fault(
        "key sets: old keys are used for ever",
        "auth/jwks.py",
        "self._now() - self._fetched_at > MAX_AGE_S",
        "self._now() < self._fetched_at",
        (KEY_SETS,),
    ),
    Fault(
        "key sets: a bad answer takes the good keys away",
        "auth/jwks.py",
        "            self._failures += 1\n",
        "            self._key_set, self._failures = None, self._failures + 1\n",
        (KEY_SETS,),
    ),
    Fault(
        "keys: a short RSA key is one",
        "auth/keys.py",
        "return MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS",
        "return key.key_size <= MAX_RSA_BITS",
        ("tests/unit/test_keys.py",),
    ),
    Fault(
        "secret: a group may read it",
        "auth/secret.py",
        "& 0o077:",
        "& 0o007:",
        ("tests/unit/test_secret.py",),
    ),
)
