"""Long-term stores behind one protocol: `file://` folders and `s3://` buckets, Glacier classes included.

A copy counts once it is proven, and the receipt says how (`Receipt.confirmed_by`):

- `store-checksums`: the store checked every part's SHA-256 as it came and shows their composite, or it shows a
  CRC64NVME of its own reckoning over the whole object; equal to what was computed from the bytes sent.
- `etag`: it checks or shows no such checksum, but its entity tag is the MD5 of what it holds; equal to ours.
- `read-back`: neither, or a folder: every byte was read again and hashed. A store that proves nothing cannot be
  used with a storage class that cannot be read back (GLACIER, DEEP_ARCHIVE): `put` refuses before it sends a byte.

Which of them a store offers is tried out (`Store.probe`), not believed.
"""
