"""Faults of `storage`."""

from mutations.fault import faults

FAULTS = faults(r"""
disk: a deletion looks at no condition
store/disk/publisher.py: contract/test_disk.py -k deletion
-                condition.check(image.etag_of(status))

disk: a deletion of one save deletes any save
store/disk/publisher.py: contract/test_disk.py -k deletion
-if save_id not in (None, image.save_id_of(status)):
+if save_id is not None and status is None:

disk: a page that is full says that it is the last one
store/disk/listing.py: contract/test_disk.py -k pages
-            return Page(entries, more=True)
+            return Page(entries, more=False)

disk, path walk: the last name is looked up in the first folder
store/disk/openat2.py: contract/test_disk.py -k Openat2
-return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
+return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)

disk, named staging files: they stay behind
store/disk/staging.py: contract/test_disk.py -k Nameless
-                os.unlink(self._name, dir_fd=self._data_directory.staging_fd)
+                os.stat(self._name, dir_fd=self._data_directory.staging_fd)

disk, without syncs: nothing can be saved
store/disk/data_directory.py: contract/test_disk.py -k Syncs
-        if not self.durable:
-            return
+        if not self.durable:
+            self._turn_read_only(OSError())

disk, large folders: changes are noted and not looked at
speed/disk/folder_cache.py: contract/test_fast_disk.py -k saved_and_deleted
-                folder.names.update(_read_states(fd, changed))

disk, large folders that are not remembered: a page has one name too few
store/disk/listing.py: contract/test_disk.py unit/test_listing.py -k 'RemembersNo or Remembers_no
  or test_listing'
-sorted([*least, *_select(smaller, start, folder.begins)])[:count]
+sorted([*least, *_select(smaller, start, folder.begins)])[: count - 1]

bucket: a condition is not sent
store/s3/store.py: contract/test_r2.py -k 'create or guarded'
-headers = headers_of(properties) | _fields_of(guard)
+headers = headers_of(properties)

bucket: a copy keeps the id of its original's save
store/s3/store.py: contract/test_r2.py -k copy
-"x-amz-metadata-directive": "REPLACE"
+"x-amz-metadata-directive": "COPY"

upload grants: another size is accepted
features/grants/service.py: grants/test_in_a_bucket.py -k another_length
-if opened.image.size != grant.size:
+if opened.image.size < 0:

upload grants: a grant that has expired is completed
features/grants/service.py: grants/test_refused.py -k 'expired and disk'
-if time.time() >= grant.expires_at:
+if time.time() >= grant.expires_at + KEPT_S:

upload grants: a hash that a client wrote beside its upload is believed
store/bucket/uploads.py: grants/test_in_a_bucket.py -k not_known
-dataclasses.replace(image_of(key, head), sha256=None)
+dataclasses.replace(image_of(key, head))

upload grants: a completion on a disk is not found again
store/disk/uploads.py: grants/test_grants.py -k 'repeated and disk'
-if _read_note(opened.fd) == _note(
+if _read_note(opened.fd) != _note(

upload grants: a grant is completed again after its image was deleted
features/grants/service.py: grants/test_grants.py -k 'twice and disk'
-self.completed.add, grant, saved)
+self.completed.sweep)

upload grants: two processes copy the same file
features/grants/completed.py: grants/test_in_a_bucket.py -k copy_a_file_once
-fcntl.LOCK_EX | fcntl.LOCK_NB
+fcntl.LOCK_SH | fcntl.LOCK_NB

upload grants: a file is copied although its hash was not checked
features/grants/service.py: grants/test_in_a_bucket.py -k same_md5
-if grant.digest in (None, sha256) and
+if

upload grants: the event of an image has no actor
features/grants/service.py: grants/test_grants.py -k 'subject and disk'
-note_actor(grant.subject)
+note_actor(None)
""")
