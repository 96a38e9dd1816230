"""Which links may be followed, and that none that may be can mean anything else to rsync or ssh."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpn.errors import LinkRefused
from dpn.transfer.link import RemoteFile, parse_link
from dpn.transfer.settings import RsyncSource

BAG = "00000000-0000-4000-a000-000000000001"
SSH = RsyncSource(mode="ssh", hosts=("north.example.org", "10.0.0.7", "[2001:db8::1]"))
DAEMON = RsyncSource(mode="daemon", hosts=("north.example.org", "2001:db8::1"), port=8730)
USUAL_DAEMON = RsyncSource(mode="daemon", hosts=("north.example.org",))


@pytest.mark.parametrize(
    ("link", "argument"),
    [
        (f"dpn.south@north.example.org:outbound/{BAG}.tar", f"dpn.south@north.example.org:outbound/{BAG}.tar"),
        (f"north.example.org:/srv/dpn/outbound/{BAG}.tar", f"north.example.org:/srv/dpn/outbound/{BAG}.tar"),
        (f"NORTH.Example.ORG:{BAG}.tar", f"north.example.org:{BAG}.tar"),
        (f"dpn@10.0.0.7:~dpn/a+b=c,d%e@f:g/{BAG}.tar", f"dpn@10.0.0.7:~dpn/a+b=c,d%e@f:g/{BAG}.tar"),
        (f"dpn@[2001:DB8:0::1]:outbound/{BAG}.tar", f"dpn@[2001:db8::1]:outbound/{BAG}.tar"),
    ],
)
def test_a_link_over_ssh_is_taken_apart(link: str, argument: str) -> None:
    assert parse_link(link, SSH, bag=BAG).argument == argument


@pytest.mark.parametrize(
    ("link", "argument"),
    [
        (f"rsync://north.example.org:8730/out/{BAG}.tar", f"rsync://north.example.org:8730/out/{BAG}.tar"),
        (f"rsync://dpn@north.example.org/out/x/{BAG}.tar", f"rsync://dpn@north.example.org:8730/out/x/{BAG}.tar"),
        (f"dpn@north.example.org::out/{BAG}.tar", f"rsync://dpn@north.example.org:8730/out/{BAG}.tar"),
        (f"RSYNC://[2001:db8::1]:8730/out/{BAG}.tar", f"rsync://[2001:db8::1]:8730/out/{BAG}.tar"),
        (f"[2001:db8:0::1]::out/{BAG}.tar", f"rsync://[2001:db8::1]:8730/out/{BAG}.tar"),
    ],
)
def test_a_link_to_a_daemon_gets_the_port_that_our_settings_pin(link: str, argument: str) -> None:
    assert parse_link(link, DAEMON, bag=BAG).argument == argument


def test_a_daemon_without_a_pinned_port_may_be_named_by_the_usual_one_only() -> None:
    link = f"rsync://north.example.org:873/out/{BAG}.tar"
    assert parse_link(link, USUAL_DAEMON, bag=BAG).argument == f"rsync://north.example.org/out/{BAG}.tar"
    assert _refusal(f"rsync://north.example.org:8730/out/{BAG}.tar", USUAL_DAEMON) == "link-port-not-allowed"


@pytest.mark.parametrize(
    ("link", "code"),
    [
        ("", "link-local-path"),
        (f"/srv/outbound/{BAG}.tar", "link-local-path"),
        (f"./north.example.org:{BAG}.tar", "link-local-path"),
        (f"{BAG}.tar", "link-local-path"),
        (f"-e sh@north.example.org:{BAG}.tar", "link-character"),
        (f"-e@north.example.org:{BAG}.tar", "link-leading-dash"),
        (f"--rsh=x:{BAG}.tar", "link-leading-dash"),
        (f"dpn@-oProxyCommand=x:{BAG}.tar", "link-leading-dash"),
        (f"-l@north.example.org:{BAG}.tar", "link-leading-dash"),
        (f"a@-b@north.example.org:{BAG}.tar", "link-user"),
        (f"@north.example.org:{BAG}.tar", "link-user"),
        (f"dpn:x@north.example.org:{BAG}.tar", "link-host-not-allowed"),
        (f"north.example.org:-x/{BAG}.tar", "link-leading-dash"),
        (f"north.example.org:out/--server/{BAG}.tar", "link-leading-dash"),
        (f"north.example.org:../{BAG}.tar", "link-path-escape"),
        (f"north.example.org:/out/../../{BAG}.tar", "link-path-escape"),
        (f"north.example.org:out/{BAG}.tar/..", "link-path-escape"),
        (f"south.example.org:out/{BAG}.tar", "link-host-not-allowed"),
        (f"north.example.org.evil.net:out/{BAG}.tar", "link-host-not-allowed"),
        (f"north.example.org@evil.net:out/{BAG}.tar", "link-host-not-allowed"),
        (f"[2001:db8::2]:out/{BAG}.tar", "link-host-not-allowed"),
        (f"[not-an-address]:out/{BAG}.tar", "link-host-not-allowed"),
        (f"[2001:db8::1:out/{BAG}.tar", "link-host-not-allowed"),
        (f"rsync://north.example.org/out/{BAG}.tar", "link-mode"),
        (f"north.example.org::out/{BAG}.tar", "link-mode"),
        (f"north.example.org:::out/{BAG}.tar", "link-mode"),
        ("north.example.org:out/other.tar", "link-file-name"),
        (f"north.example.org:out/{BAG}.tar/", "link-file-name"),
        (f"north.example.org:out/{BAG}.tar.gz", "link-file-name"),
        (f"north.example.org:out/x{BAG}.tar", "link-file-name"),
        ("north.example.org:", "link-file-name"),
        (f"north.example.org:{'x/' * 600}{BAG}.tar", "link-too-long"),
    ],
)
def test_a_hostile_link_over_ssh_is_refused_with_a_stable_code(link: str, code: str) -> None:
    assert _refusal(link, SSH) == code


@pytest.mark.parametrize(
    ("link", "code"),
    [
        (f"rsync://north.example.org:22/out/{BAG}.tar", "link-port-not-allowed"),
        (f"rsync://north.example.org:08730/out/{BAG}.tar", "link-port-not-allowed"),
        (f"rsync://north.example.org:/out/{BAG}.tar", "link-port-not-allowed"),
        (f"rsync://north.example.org:8730:1/out/{BAG}.tar", "link-port-not-allowed"),
        (f"rsync://[2001:db8::1/out/{BAG}.tar", "link-form"),
        (f"rsync://north.example.org/{BAG}.tar", "link-form"),
        (f"rsync://north.example.org//{BAG}.tar", "link-form"),
        ("rsync://north.example.org", "link-form"),
        (f"rsync:///out/{BAG}.tar", "link-host-not-allowed"),
        (f"rsync://-x/out/{BAG}.tar", "link-leading-dash"),
        (f"rsync://a@b@north.example.org/out/{BAG}.tar", "link-user"),
        (f"north.example.org::{BAG}.tar", "link-form"),
        (f"north.example.org:::out/{BAG}.tar", "link-form"),
        (f"north.example.org:out/{BAG}.tar", "link-mode"),
        (f"ssh://north.example.org/out/{BAG}.tar", "link-mode"),
    ],
)
def test_a_hostile_link_to_a_daemon_is_refused_with_a_stable_code(link: str, code: str) -> None:
    assert _refusal(link, DAEMON) == code


@pytest.mark.parametrize(
    "character", [*" $`;|&<>(){}*?!#^\"'\\", "\n", "\r", "\t", "\0", "\x7f", "é", "\u202e", "²"]
)
@pytest.mark.parametrize("template", ["north.example.org:a{}b/{bag}.tar", "d{}n@north.example.org:{bag}.tar"])
def test_a_character_that_means_something_to_a_shell_is_refused(template: str, character: str) -> None:
    assert _refusal(template.format(character, bag=BAG), SSH) == "link-character"


@pytest.mark.parametrize("bag", ["", "x", "../etc", BAG.upper().replace("0", "A"), f"{BAG}\n", f"{BAG}/x"])
def test_a_bag_whose_id_is_no_uuid_has_no_link(bag: str) -> None:
    assert _refusal(f"north.example.org:{bag}.tar", SSH, bag=bag) == "bag-not-uuid"


@given(st.text(max_size=2000))
@example("\U0010ffff" * 1000)
def test_a_refusal_is_one_printable_line_that_fits_a_cancellation(link: str) -> None:
    with pytest.raises(LinkRefused) as refused:
        parse_link(link, SSH, bag=BAG)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) <= 255


_PIECES = st.sampled_from(
    "north.example.org NORTH.example.org evil.net [2001:db8::1] rsync:// @ : :: :8730 / "
    f".. . - --rsh=x -oProxyCommand=x ~ out {BAG}.tar /{BAG}.tar $(x) [ ] %".split()
)
_LINKS = st.lists(_PIECES, max_size=8).map("".join)
_PATHS = st.text(string.ascii_letters + string.digits + "._/~@%+=,:-[]", max_size=30)
_NEAR_LINKS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "dpn@", "-x@", "a@b@"]),
    st.sampled_from(["north.example.org:", "north.example.org::", "[2001:db8::1]:", "[2001:db8::1]::"]),
    _PATHS,
    st.sampled_from([f"{BAG}.tar", f"/{BAG}.tar"]),
)
_URLS = st.builds(
    "rsync://north.example.org{}/{}/{}".format, st.sampled_from(["", ":8730"]), _PATHS, st.just(f"{BAG}.tar")
)


@settings(max_examples=500)
@given(st.one_of(_LINKS, _NEAR_LINKS, _URLS), st.sampled_from([SSH, DAEMON]))
@example(f"dpn@north.example.org:out/{BAG}.tar", SSH)
@example(f"rsync://north.example.org:8730/out/{BAG}.tar", DAEMON)
def test_no_accepted_link_can_be_an_option_a_local_path_or_an_escape(link: str, source: RsyncSource) -> None:
    try:
        remote = parse_link(link, source, bag=BAG)
    except LinkRefused:
        return
    _assert_harmless(remote, source)


def _assert_harmless(remote: RemoteFile, source: RsyncSource) -> None:
    argument = remote.argument
    assert remote.host in ("north.example.org", "10.0.0.7", "2001:db8::1")
    assert remote.port == source.port
    assert not argument.startswith("-")
    assert not remote.path.startswith(("-", ":"))
    assert remote.user is None or not remote.user.startswith("-")
    assert ".." not in remote.path.split("/")
    assert remote.path.split("/")[-1] == f"{BAG}.tar"
    assert set(argument) <= set(string.ascii_letters + string.digits + "._/~@%+=,:-[]")
    # As rsync reads it: a daemon's URL, or a host before the first colon that no slash precedes.
    if source.mode == "daemon":
        assert argument.startswith("rsync://")
    else:
        host, _, rest = argument.replace("[2001:db8::1]", "v6").partition(":")
        assert "/" not in host
        assert not rest.startswith(":")


def _refusal(link: str, source: RsyncSource, *, bag: str = BAG) -> str:
    with pytest.raises(LinkRefused) as refused:
        parse_link(link, source, bag=bag)
    return refused.value.code
