"""A root that is a bucket, or what lies under a prefix in one."""
