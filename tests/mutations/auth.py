"""Faults of `auth`: tokens, prefixes, signed URLs, sign-in codes and key sets."""

from mutations.fault import faults

FAULTS = faults(r"""
tokens: one is good for a minute more
store/auth/tokens.py: unit/test_tokens.py
-        if token.expires <= self.now():
+        if token.expires + 60 <= self.now():

tokens: an empty prefix is none
store/auth/tokens.py: unit/test_tokens.py
-if "prefix" in claims else Grant(scopes)
+if folder else Grant(scopes)

tokens: an empty scope allows everything
store/auth/tokens.py: unit/test_tokens.py
-        if "scope" in claims or not self.keys.unscoped_may_all:
+        if scope or not self.keys.unscoped_may_all:

tokens: those of another issuer are taken
store/auth/tokens.py: unit/test_tokens.py
-                    issuer=self.issuer,

tokens: a previous secret is not accepted
store/auth/choose.py: unit/test_keys.py acceptance/test_starting.py -k old_one
-    return [current, *config.previous], is_new
+    return [current], is_new

prefixes: a folder covers what begins like it
store/auth/grants.py: unit/test_tokens.py
-ImagePath.parse(folder.removesuffix("/")).text + "/")
+ImagePath.parse(folder.removesuffix("/")).text)

prefixes: a listing above the folder shows all
store/auth/grants.py: unit/test_tokens.py
-            return ImagePrefix(self.folder)
+            return prefix

prefixes: a confined token has the whole library
store/auth/grants.py: acceptance/test_media_permissions.py
-        self.require_scope(scope)
-        if self.folder:
+        self.require_scope(scope)
+        if not self.scopes:

prefixes: a token does not cover its own folder as a run
store/auth/grants.py: unit/test_tokens.py
-f"{folder.text}/".startswith(self.folder)
+folder.text.startswith(self.folder)

tokens: a checked one is remembered beyond its end
store/auth/verified.py: unit/test_verified.py
-Verified(grant, min(expires, self._now() + CACHE_S))
+Verified(grant, self._now() + CACHE_S)

tokens: long ones are remembered, too
store/auth/verified.py: unit/test_verified.py
-        if len(authorization) <= _LONGEST:
+        if authorization:

signed URLs: they do not end
store/auth/signed_urls.py: unit/test_signed_urls.py
-if expires_at <= self._now():
+if expires_at <= 0:

signed URLs: other parameters are not signed
store/auth/signed_urls.py: unit/test_signed_urls.py
-raw_path, others or b"", expires, kid)
+raw_path, b"", expires, kid)

signed URLs: a previous secret is not accepted
store/auth/signed_urls.py: unit/test_signed_urls.py
-dict(reversed(keys))
+dict(keys[:1])

signed URLs: they do more than read
store/auth/signed_urls.py: unit/test_signed_urls.py
-Grant(frozenset(["storage:read"]))
+Grant(frozenset(["storage:read", "storage:write"]))

signed URLs: who may not read an image gets one
store/api/signed_urls.py: acceptance/test_signed_urls.py -k only_who
-        grant.require("storage:read", image_path)

signed URLs: one of an image opens a ZIP file
store/auth/signed_urls.py: acceptance/test_archive_links.py -k "named_archive and disk"
-        _, expires_at = self.check_for(purpose, raw_path, query)
+        _, expires_at = self.check_for("GET", raw_path, query)

signed URLs: one of a ZIP file leads beyond the folder of the token
features/archive/selection.py: acceptance/test_archive_links.py -k "no_further and disk"
-            texts["prefix"] = [parameters.prefix.text]
+            pass

signed URLs: a ZIP file of a run needs no permission for its folder
features/archive/selection.py: acceptance/test_archive_links.py -k "no_further and disk"
-            grant.require_folder("storage:read", self.run)
+            pass

signed URLs: a ZIP file has no limit when it is opened
features/archive/selection.py: acceptance/test_archive_links.py -k "413 and disk"
-        if is_link or parameters.run is not None:
+        if parameters.run is not None:

signed URLs: any number of ZIP files can be open
features/archive/selection.py: acceptance/test_archive_links.py -k "fifth and disk"
-        self._links += 1
+        self._links += 0

signed URLs: a refused ZIP file keeps its place
features/archive/selection.py: acceptance/test_archive_links.py -k "fifth and disk"
-            self._links -= 1
+            pass

signed URLs: who may only write gets one with a save
store/api/images.py: acceptance/test_sign_url.py -k may_not_read
-            grant.require("storage:read", image_path)
+            pass

runs: a manifest of another folder leads there
features/runs/service.py: acceptance/test_archive_links.py -k renamed
-                    if not path.text.startswith(f"{folder.text}/"):
+                    if not path.text:

sign-in codes: one is good twice
features/gallery/sign_in_codes.py: unit/test_sign_in_codes.py
-            is_valid = _is_valid(file)
-            file.unlink()
+            is_valid = _is_valid(file)

sign-in codes: they do not end
features/gallery/sign_in_codes.py: unit/test_sign_in_codes.py
-return abs(age_s) < CODE_LIFE.total_seconds()
+return age_s is not None

sign-in codes: each device is remembered for a month
features/gallery/sign_in.py: acceptance/test_sign_in.py -k lasts
-_REMEMBERED_LIFE if body.remember else _TOKEN_LIFE
+_REMEMBERED_LIFE

key sets: a key for encryption is taken for one that signs
store/auth/jwks.py: unit/test_jwks.py
-entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
+entry.get("alg", algorithm) != algorithm:

key sets: redirects are followed
store/auth/jwks.py: unit/test_jwks.py
-follow_redirects=False
+follow_redirects=True

key sets: each unknown key causes a fetch
store/auth/jwks.py: unit/test_jwks.py
-        if now - self._unknown_key_at < UNKNOWN_KEY_S:
+        if now < self._unknown_key_at:

key sets: old keys are used for ever
store/auth/jwks.py: unit/test_jwks.py
-self._now() - self._fetched_at > MAX_AGE_S
+self._now() < self._fetched_at

key sets: a bad answer takes the good keys away
store/auth/jwks.py: unit/test_jwks.py
-            self._failures += 1
+            self._key_set, self._failures = None, self._failures + 1

keys: a short RSA key is one
store/auth/keys.py: unit/test_keys.py
-return MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
+return key.key_size <= MAX_RSA_BITS

secret: a group may read it
store/auth/secret.py: unit/test_secret.py
-& 0o077:
+& 0o007:
""")
