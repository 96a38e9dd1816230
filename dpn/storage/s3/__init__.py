"""S3 and what speaks its language: AWS (Glacier classes included), versitygw, MinIO, Ceph."""
