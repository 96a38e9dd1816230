"""One header, one extended header: what is accepted is exactly what the formats allow."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpn.bags.tar.headers import DamagedHeader, DamagedPax, Header, parse_header, parse_pax
from tests.fixtures.made_bags import header, pax_record, with_checksum


@given(st.binary(min_size=1, max_size=99), st.integers(0, 8**11 - 1), st.sampled_from([b"0", b"5", b"2", b"\0"]))
def test_what_is_written_is_read(name: bytes, size: int, kind: bytes) -> None:
    assert parse_header(header(name, size, kind)) == Header(name.partition(b"\0")[0], kind, size)


@given(st.integers(8**11, 2**63 - 1))
def test_large_sizes_in_base_256_are_read(size: int) -> None:
    assert parse_header(header(b"x", size)).size == size


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60),
    st.integers(0, 2**62),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
@example("\u00e9" * 50 + "x", 0, tarfile.GNU_FORMAT)
@example("x" + "\u00e9" * 59, 0, tarfile.GNU_FORMAT)  # cut within a character
def test_headers_of_the_standard_module_are_read_as_it_reads_them(name: str, size: int, form: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    try:
        block = info.tobuf(form, "utf-8", "strict")[-512:]
    except ValueError:
        return
    read = tarfile.TarInfo.frombuf(block, "utf-8", "replace") if b"\0" not in block[:1] else None
    if read is not None and not name.endswith("/"):
        found = parse_header(block)
        assert (found.name.decode("utf-8", "replace").strip("/"), found.size) == (read.name.strip("/"), read.size)


@given(st.integers(0, 511), st.integers(1, 255))
def test_any_changed_byte_is_noticed_unless_the_sum_stays(position: int, change: int) -> None:
    block = bytearray(header(b"name", 100))
    block[position] ^= change
    try:
        found = parse_header(bytes(block))
    except DamagedHeader:
        return
    assert 148 <= position < 156  # white space or leading zeros of the checksum itself
    assert found == Header(b"name", b"0", 100)


def test_checksums_over_signed_bytes_as_old_tars_wrote_them_are_accepted() -> None:
    block = header("caf\u00e9".encode(), 1)
    unsigned = sum(block[:148] + b" " * 8 + block[156:])
    signed = unsigned - 256 * sum(byte > 127 for byte in block)
    assert parse_header(block[:148] + b"%06o\0 " % signed + block[156:]).size == 1
    with pytest.raises(DamagedHeader):
        parse_header(block[:148] + b"%06o\0 " % (signed + 1) + block[156:])


@pytest.mark.parametrize(
    "field", [b"0o7", b"1_0", b"+7", b"-7", b"8", b"7 7", b"x", b"\xff" * 12, b"\x81" + b"0" * 11]
)
def test_numbers_that_python_would_take_and_tar_would_not_are_refused(field: bytes) -> None:
    block = header(b"x")
    with pytest.raises(DamagedHeader):
        parse_header(with_checksum(block[:124] + field.ljust(12, b"\0") + block[136:]))


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=20).filter(lambda key: b"=" not in key), st.binary(max_size=200), max_size=5
    )
)
def test_pax_records_come_back(records: dict[bytes, bytes]) -> None:
    assert parse_pax(b"".join(pax_record(key, value) for key, value in records.items())) == records


@given(st.binary(max_size=60))
def test_pax_parsing_ends_with_records_or_a_complaint(data: bytes) -> None:
    try:
        records = parse_pax(data)
    except DamagedPax:
        return
    assert b"".join(pax_record(key, value) for key, value in records.items()) == data or b"0" in data


def test_pax_of_the_standard_module_is_read() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("caf\u00e9/" + "n" * 200)
        info.mtime = 1.25  # type: ignore[assignment]
        tar.addfile(info)
    block = stream.getvalue()
    size = parse_header(block[:512]).size
    assert parse_pax(block[512 : 512 + size])[b"path"] == info.name.encode()
