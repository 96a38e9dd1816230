"""CRC64NVME, the checksum over a whole object that S3 reckons by itself (by Amazon's C implementation)."""

from __future__ import annotations

from awscrt import checksums


def crc64nvme(data: memoryview, previous: int) -> int:
    """The CRC of what gave `previous` with `data` behind it; begin with 0."""
    return int(checksums.crc64nvme(data, previous))


def combine_crc64nvme(first: int, second: int, second_size: int) -> int:
    """The CRC of two pieces in a row, from that of each and the size of the second in bytes."""
    return int(checksums.combine_crc64nvme(first, second, second_size))
