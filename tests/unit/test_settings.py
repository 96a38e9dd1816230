"""A wrong key, type or path stops the start with a message naming file, key and remedy; secrets stay secret."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dpn.errors import Misconfigured
from dpn.setting_types import SettingsError
from dpn.settings import Settings
from dpn.settings_file import load_settings

SECRET = "hunter2-not-for-anybodys-eyes"
NOBODY = 65534

MINIMAL = """
[node]
namespace = "south"
api_root = "https://dpn.south.example.org"
[database]
url = "sqlite:////srv/dpn/node.db"
[staging.volumes]
main = "/srv/dpn/staging"
[store]
url = "file:///srv/dpn/store"
"""

PEER = """
[peers.north]
api_root = "https://dpn.north.example.org"
token = "a-token"
[peers.north.rsync]
hosts = ["north.example.org"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.toml"


def load(file: Path, text: str = MINIMAL, environment: Mapping[str, str] | None = None) -> Settings:
    file.write_text(text)
    return load_settings(file, environment or {})


def problem(file: Path, text: str = MINIMAL, environment: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as refused:
        load(file, text, environment)
    return str(refused.value)


# -- what is right -----------------------------------------------------------------------------------------------


def test_a_file_with_only_what_has_no_default_is_enough(file: Path) -> None:
    settings = load(file)
    assert settings.broker.kind == "embedded"
    assert settings.staging.volumes == {"main": Path("/srv/dpn/staging")}
    assert settings.peers == {}


@pytest.mark.parametrize("host", ["127.0.0.1:8081", "localhost", "[::1]:8081", "127.9.9.9"])
def test_a_token_may_go_over_plain_http_on_this_machine(file: Path, host: str) -> None:
    text = MINIMAL + PEER.replace("https://dpn.north.example.org", f"http://{host}")
    assert load(file, text).peers["north"].api_root == f"http://{host}"


@pytest.mark.parametrize("place", ["file", "environment"])
def test_a_token_goes_over_plain_http_to_another_machine_only_where_settings_say_so(
    file: Path, place: str
) -> None:
    text = MINIMAL + PEER.replace("https://", "http://")
    if place == "file":
        text, environment = text.replace("token =", "allow_plain_http = true\ntoken ="), {}
    else:
        environment = {"DPN_PEERS__NORTH__ALLOW_PLAIN_HTTP": "true"}
    assert load(file, text, environment).peers["north"].allow_plain_http


def test_settings_cannot_be_changed_once_loaded(file: Path) -> None:
    settings = load(file)
    with pytest.raises(ValueError, match="frozen"):
        settings.node.namespace = "north"  # type: ignore[misc]


def test_a_tilde_means_the_home_folder(file: Path) -> None:
    settings = load(file, MINIMAL.replace("/srv/dpn/staging", "~/staging"))
    assert settings.staging.volumes["main"] == Path.home() / "staging"


def test_a_trailing_slash_of_an_address_does_not_matter(file: Path) -> None:
    settings = load(file, MINIMAL + PEER.replace("north.example.org", "north.example.org:8443/dpn/", 1))
    assert settings.peers["north"].api_root == "https://dpn.north.example.org:8443/dpn"


# -- what is wrong: file, key, remedy ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "remedy"),
    [
        pytest.param(MINIMAL + "[stor]\nurl = 'x'", "stor", "did you mean 'store'?", id="section"),
        pytest.param(MINIMAL + "regoin = 'x'", "store.regoin", "did you mean 'region'?", id="key"),
        pytest.param(MINIMAL + "[work]\nzzz = 1", "work.zzz", "attempts, attention_after_seconds", id="far key"),
        pytest.param(
            MINIMAL + PEER.replace("token", "tokken"),
            "peers.north.tokken",
            "did you mean 'token'?",
            id="peer's key",
        ),
        pytest.param(
            MINIMAL + "[ingest.outbound.main]\nlnk = 'x'",
            "ingest.outbound.main.lnk",
            "did you mean 'link'?",
            id="key of a table by name",
        ),
        pytest.param(
            MINIMAL + PEER + "host = 'x'", "peers.north.rsync.host", "did you mean 'hosts'?", id="nested key"
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(file: Path, text: str, key: str, remedy: str) -> None:
    message = problem(file, text)
    assert f"{file}: {key}: unknown key" in message
    assert remedy in message


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('namespace = "south"', "node.namespace"),
        ('url = "file:///srv/dpn/store"', "store.url"),
    ],
)
def test_a_missing_key_is_named_and_where_it_is_explained(file: Path, line: str, key: str) -> None:
    assert line in MINIMAL
    message = problem(file, MINIMAL.replace(line, ""))
    assert message == f"{file}: {key}: missing: add it (config/node.example.toml explains every key)"


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("[work]\nattempts = 'many'", "work.attempts", "must be a whole number"),
        ("[work]\nattempts = 2.5", "work.attempts", "must be a whole number"),
        ("[work]\nattempts = 0", "work.attempts", "must be greater than 0"),
        ("[work]\nattempts = true", "work.attempts", "must not be true or false"),
        ("[work]\nlease_seconds = -1", "work.lease_seconds", "must be greater than 0"),
        ("[work]\nlease_seconds = inf", "work.lease_seconds", "must be a finite number"),
        ("[work]\nlease_seconds = 'long'", "work.lease_seconds", "must be a number"),
        ("[transfer]\nrsync = 3", "transfer.rsync", "must be text, in quotes"),
        ("[broker]\nkind = 'rabbit'", "broker.kind", "must be 'embedded' or 'nsq'"),
        ("[broker.nsq]\nnsqd_tcp_addresses = 'nsqd:4150'", "broker.nsq.nsqd_tcp_addresses", "must be a list"),
        (
            "[broker.nsq]\nnsqd_tcp_addresses = ['http://nsqd:4150']",
            "broker.nsq.nsqd_tcp_addresses.0",
            "host:port",
        ),
        ("[broker.nsq]\nnsqd_tcp_addresses = ['nsqd:70000']", "broker.nsq.nsqd_tcp_addresses.0", "1 to 65535"),
        ("[broker]\nnsqd_http_addresses = ['nsqd:70000']", "broker.nsqd_http_addresses.0", "1 to 65535"),
        ("[broker]\nkind = 'nsq'", "broker", "needs [broker.nsq] nsqd_http_addresses"),
        (
            "[broker]\nkind = 'nsq'\nnsq = {nsqd_http_addresses = ['nsqd:4151']}",
            "broker",
            "needs [broker.nsq] nsqlookupd_http_addresses or nsqd_tcp_addresses",
        ),
        (
            "[broker]\nnsqd_http_addresses = ['a:1']\nnsq = {nsqd_http_addresses = ['a:1']}",
            "broker.nsqd_http_addresses",
            "given as broker.nsq.nsqd_http_addresses, too: remove this one",
        ),
        ('[ingest]\nnode_address = "1 Long Street\\nTown"', "ingest.node_address", "must be one line"),
        ('[ingest]\ncontact_name = " Ann"', "ingest.contact_name", "must be one line"),
        ('[ingest]\ncontact_email = "a@example.org\\u2028"', "ingest.contact_email", "must be one line"),
        ("[log]\ndirectory = 'logs'", "log.directory", "must be an absolute path"),
        ("[log]\ndirectory = 7", "log.directory", "must be a path, in quotes"),
        ("[log]\nstderr = false", "log", "needs a directory"),
        ("[server]\nport = 70000", "server.port", "must be less than or equal to 65535"),
        ("peers = 3", "peers", "must be a table"),
        (PEER.replace("peers.north", "peers.North"), "peers.North", "must be lower-case"),
        (PEER.replace("peers.north", "peers.south"), "peers.south", "this is the node itself"),
        (PEER.replace("https://", "ftp://"), "peers.north.api_root", "must be an http:// or https:// address"),
        (PEER.replace("https://", "http://"), "peers.north.api_root", "say allow_plain_http = true"),
        (PEER.replace("https://", "HTTP://"), "peers.north.api_root", "must be https://"),
        (PEER.replace("https://dpn.north", "http://127.0.0.1.north"), "peers.north.api_root", "must be https://"),
        (
            PEER.replace("token =", "allow_plain_http = 1.5\ntoken ="),
            "peers.north.allow_plain_http",
            "true or false",
        ),
        (PEER.replace(".org", ".org:70000", 1), "peers.north.api_root", "valid host and port"),
        (PEER.replace('["north.example.org"]', "[]"), "peers.north.rsync.hosts", "at least 1 item"),
        (PEER.replace('token = "a-token"', ""), "peers.north", "give exactly one of token and token_file"),
    ],
)
def test_a_wrong_value_is_answered_with_file_key_and_what_it_must_be(
    file: Path, text: str, key: str, expected: str
) -> None:
    message = problem(file, text + "\n" + MINIMAL if text.startswith("peers") else MINIMAL + text)
    assert message.startswith(f"{file}: {key}: ")
    assert expected in message
    assert "pydantic" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        ('"south"', '"South"', "node.namespace", "must be lower-case"),
        ('"/srv/dpn/staging"', '"staging"', "staging.volumes.main", "must be an absolute path"),
        ('main = "/srv', 'Main = "/srv', "staging.volumes", "volume name 'Main'"),
        ('main = "/srv/dpn/staging"', "", "staging.volumes", "name at least one volume"),
        ("file:///srv/dpn/store", "srv/dpn/store", "store.url", "must be file:///absolute/folder or s3://bucket"),
        ("file:///srv/dpn/store", "s3://", "store.url", "must be file:///absolute/folder or s3://bucket"),
        ('url = "sqlite:////srv/dpn/node.db"', "", "database", "give exactly one of url and url_file"),
        ("[store]", "[store]\npart_size_bytes = 100", "store.part_size_bytes", "5242880"),
        ("[store]", "[store]\nstorage_class = 'COLD'", "store.storage_class", "'DEEP_ARCHIVE'"),
        ("[store]", "[store]\naccess_key_id = 'x'", "store", "give both or neither"),
        ("[store]", "[store]\nsecret_access_key = 'x'", "store", "give both or neither"),
    ],
)
def test_a_wrong_value_of_what_must_be_there_is_answered_alike(
    file: Path, old: str, new: str, key: str, expected: str
) -> None:
    message = problem(file, MINIMAL.replace(old, new))
    assert message.startswith(f"{file}: {key}: ")
    assert expected in message


def test_all_problems_are_told_at_once_a_line_each(file: Path) -> None:
    message = problem(file, MINIMAL + "regoin = 'x'\n[work]\nattempts = 0\nlease_seconds = 0")
    assert [line.split(": ")[1] for line in message.splitlines()] == [
        "store.regoin",
        "work.lease_seconds",
        "work.attempts",
    ]


def test_an_error_of_the_file_itself_names_the_line(file: Path) -> None:
    message = problem(file, MINIMAL + "[work\nattempts = 3")
    assert message.startswith(f"{file}: not valid TOML: ")
    assert f"line {len(MINIMAL.splitlines()) + 1}" in message


def test_a_file_that_is_not_there_says_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: no such file: copy config/node\.example\.toml"):
        load_settings(tmp_path / "nowhere.toml", {})


def test_a_folder_or_other_text_instead_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Is a directory"):
        load_settings(tmp_path, {})
    (tmp_path / "utf16.toml").write_bytes(MINIMAL.encode("utf-16"))
    with pytest.raises(SettingsError, match=r"utf16\.toml: not text in UTF-8 \(byte 0\)"):
        load_settings(tmp_path / "utf16.toml", {})


def test_wrong_settings_are_a_misconfiguration_that_a_caller_can_catch() -> None:
    assert issubclass(SettingsError, Misconfigured)


# -- the environment over the file -------------------------------------------------------------------------------


def test_the_environment_goes_over_the_file_with_the_types_of_the_settings(file: Path) -> None:
    settings = load(
        file,
        MINIMAL + "[work]\nattempts = 3\nlease_seconds = 10",
        {
            "DPN_WORK__ATTEMPTS": "7",
            "DPN_STORE__URL": "s3://bucket/prefix",
            "DPN_STAGING__VOLUMES__FAST": "/mnt/fast",
            "DPN_LOG__METRICS_PORT": "9100",
            "HOME": "/nowhere",
        },
    )
    assert (settings.work.attempts, settings.work.lease_seconds) == (7, 10.0)
    assert settings.store.url == "s3://bucket/prefix"
    assert set(settings.staging.volumes) == {"main", "fast"}
    assert settings.log.metrics_port == 9100


def test_a_list_in_the_environment_has_commas(file: Path) -> None:
    environment = {
        "DPN_BROKER__KIND": "nsq",
        "DPN_BROKER__NSQ__NSQD_HTTP_ADDRESSES": "a:4151, b:4151",
        "DPN_BROKER__NSQ__NSQLOOKUPD_HTTP_ADDRESSES": "c:4161",
        "DPN_BROKER__NSQ__NSQD_TCP_ADDRESSES": "",
        "DPN_PEERS__NORTH__RSYNC__HOSTS": "one.example.org,two.example.org",
    }
    settings = load(file, MINIMAL + PEER, environment)
    assert settings.broker.nsq.nsqd_http_addresses == ("a:4151", "b:4151")
    assert settings.broker.nsq.nsqlookupd_http_addresses == ("c:4161",)
    assert settings.broker.nsq.nsqd_tcp_addresses == ()
    assert settings.peers["north"].rsync.hosts == ("one.example.org", "two.example.org")


NSQ_IN_BROKER = (
    "[broker]\nkind = 'nsq'\nnsqd_http_addresses = ['old:4151']\nnsqlookupd_http_addresses = ['old:4161']"
)


def test_keys_that_have_moved_are_read_where_they_stood_in_the_file_and_in_the_environment(file: Path) -> None:
    nsq = load(file, MINIMAL + NSQ_IN_BROKER).broker.nsq
    assert (nsq.nsqd_http_addresses, nsq.nsqlookupd_http_addresses) == (("old:4151",), ("old:4161",))
    in_one_place = MINIMAL + NSQ_IN_BROKER.replace("nsqd_http_addresses = ['old:4151']\n", "")
    variable = {"DPN_BROKER__NSQD_HTTP_ADDRESSES": "a:4151"}
    assert load(file, in_one_place, variable).broker.nsq.nsqd_http_addresses == ("a:4151",)


@pytest.mark.parametrize(
    "text", [NSQ_IN_BROKER, NSQ_IN_BROKER.replace("nsqd", "nsq.nsqd").replace("nsql", "nsq.nsql")]
)
@pytest.mark.parametrize("variable", ["DPN_BROKER__NSQD_HTTP_ADDRESSES", "DPN_BROKER__NSQ__NSQD_HTTP_ADDRESSES"])
def test_a_variable_goes_over_the_file_whatever_names_they_use(file: Path, text: str, variable: str) -> None:
    assert load(file, MINIMAL + text, {variable: "new:4151"}).broker.nsq.nsqd_http_addresses == ("new:4151",)


def test_two_variables_for_one_setting_are_refused(file: Path) -> None:
    old, new = "DPN_BROKER__NSQD_HTTP_ADDRESSES", "DPN_BROKER__NSQ__NSQD_HTTP_ADDRESSES"
    assert problem(file, MINIMAL, {old: "a:1", new: "a:1"}).startswith(f"environment: {old}, {new}: ")


def test_every_setting_that_is_a_list_is_one_in_the_environment(file: Path) -> None:
    settings = load(file, MINIMAL, {"DPN_RESTORE__REFUSE": "east, west", "DPN_INGEST__SOURCE_FOLDERS": "/a,/b"})
    assert settings.restore.refuse == ("east", "west")
    assert settings.ingest.source_folders == (Path("/a"), Path("/b"))


def test_a_whole_peer_may_come_from_the_environment(file: Path) -> None:
    environment = {
        "DPN_PEERS__EAST__API_ROOT": "https://dpn.east.example.org",
        "DPN_PEERS__EAST__TOKEN": SECRET,
        "DPN_PEERS__EAST__RSYNC__HOSTS": "east.example.org",
    }
    assert load(file, MINIMAL, environment).peers["east"].secret() == SECRET


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (
            "DPN_WORK__ATEMPTS",
            "3",
            "work.atempts: unknown key: remove it or correct it (did you mean 'attempts'?)",
        ),
        ("DPN_WORK__ATTEMPTS", "many", "work.attempts: must be a whole number"),
        ("DPN_BROKER__NSQD_HTTP_ADDRESSES", "a:4151,b", "broker.nsq.nsqd_http_addresses.1: must be host:port"),
        ("DPN_PEERS__NORTH", "x", "peers.north: must be a table"),
    ],
)
def test_a_wrong_variable_is_named_instead_of_the_file(
    file: Path, variable: str, value: str, expected: str
) -> None:
    message = problem(file, MINIMAL, {variable: value})
    assert message.startswith(f"environment: {variable}: {expected}")
    assert str(file) not in message


@pytest.mark.parametrize("variable", ["DPN_NAMESPACE", "DPN_FOO__BAR", "DPN_", "DPN_NODE", "DPN_DATABASE_URL"])
def test_an_unknown_variable_of_ours_stops_the_start_and_says_what_one_looks_like(
    file: Path, variable: str
) -> None:
    message = problem(file, MINIMAL, {variable: "x"})
    assert message.startswith(f"environment: {variable}: no such setting: unset it, or write DPN_SECTION__KEY")
    assert "database" in message


def test_a_variable_below_a_value_is_refused(file: Path) -> None:
    message = problem(file, MINIMAL, {"DPN_STORE__URL__SCHEME": "s3"})
    assert message.startswith("environment: DPN_STORE__URL__SCHEME: 'url' is a value, not a table")


def test_what_is_missing_of_a_table_that_a_variable_began_names_both(file: Path) -> None:
    message = problem(file, MINIMAL, {"DPN_PEERS__EAST__TOKEN": "x"})
    assert f"{file}: peers.east.api_root: missing" in message
    message = problem(file, MINIMAL, {"DPN_STORE__ACCESS_KEY_ID": "x"})
    assert message.startswith(f"{file} with DPN_STORE__ACCESS_KEY_ID from the environment: store: ")


def test_the_name_of_the_file_itself_is_no_setting(file: Path) -> None:
    assert load(file, MINIMAL, {"DPN_CONFIG": str(file)}).node.namespace == "south"


# -- secrets -----------------------------------------------------------------------------------------------------


def test_secrets_may_lie_in_files_and_lose_their_line_end(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    settings = load(file, with_secrets_in(secret))
    assert settings.database.address() == SECRET
    assert settings.store.secret() == SECRET
    assert settings.peers["north"].secret() == SECRET


def test_a_token_file_that_was_replaced_counts_from_then_on(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("old")
    peer = load(file, with_secrets_in(secret)).peers["north"]
    secret.write_text("new")
    assert peer.secret() == "new"
    secret.unlink()
    with pytest.raises(SettingsError, match=r"^token_file: .*secret cannot be read as a file \(No such file"):
        peer.secret()


def test_a_secret_in_the_environment_replaces_the_file_that_the_settings_name(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from the file")
    environment = {
        "DPN_DATABASE__URL": "sqlite:///x",
        "DPN_PEERS__NORTH__TOKEN": "from the environment",
        "DPN_STORE__SECRET_ACCESS_KEY": "likewise",
    }
    settings = load(file, with_secrets_in(secret), environment)
    assert settings.database.address() == "sqlite:///x"
    assert settings.peers["north"].secret() == "from the environment"
    assert settings.store.secret() == "likewise"


def test_a_secret_given_twice_is_refused(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    message = problem(file, MINIMAL + PEER.replace("token =", f'token_file = "{secret}"\ntoken ='))
    assert f"{file}: peers.north: give exactly one of token and token_file" in message
    both = {"DPN_PEERS__NORTH__TOKEN": "x", "DPN_PEERS__NORTH__TOKEN_FILE": str(secret)}
    assert "give exactly one of token and token_file" in problem(file, MINIMAL + PEER, both)
    twice = f'[store]\naccess_key_id = "x"\nsecret_access_key = "x"\nsecret_access_key_file = "{secret}"'
    assert "give only one of secret_access_key" in problem(file, MINIMAL.replace("[store]", twice))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read as a file (No such file or directory)"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe\x00", "is not text in UTF-8"),
        (b"x" * 100_000, "is too large for a secret"),
    ],
)
def test_a_file_without_a_usable_secret_stops_only_what_needs_that_secret(
    file: Path, tmp_path: Path, content: bytes | None, expected: str
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    settings = load(file, with_secrets_in(secret))
    for key, message in unusable_secrets(settings).items():
        assert message.startswith(f"{key}: {secret} {expected}: ")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_not_a_file_is_no_secret_and_makes_nobody_wait(file: Path, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir() if kind == "folder" else os.mkfifo(secret)
    for key, message in unusable_secrets(load(file, with_secrets_in(secret))).items():
        assert message.startswith(f"{key}: {secret} ")


def test_a_file_that_this_user_may_not_read_says_so_where_it_is_needed(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0)
    settings = load(file, with_secrets_in(secret))
    with as_nobody(tmp_path):
        messages = unusable_secrets(settings)
    file.chmod(0)
    with as_nobody(tmp_path):
        assert problem_of(file).startswith(f"{file}: cannot be read as a file (Permission denied)")
    for key, message in messages.items():
        assert message.startswith(f"{key}: {secret} cannot be read as a file (Permission denied): ")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f'[peers.north]\ntoken = "{SECRET}"', id="other keys missing"),
        pytest.param(PEER.replace("a-token", SECRET) + f'password_file = "{SECRET}"', id="a secret for a path"),
        pytest.param(PEER.replace('token = "a-token"', f'token_file = "{SECRET}"'), id="a token for its file"),
        pytest.param(PEER.replace('"a-token"', f'["{SECRET}"]'), id="a list"),
        pytest.param(PEER.replace("a-token", SECRET + '"\ntoken_file = "/'), id="given twice"),
        pytest.param(PEER.replace("https://", f"https://user:{SECRET}@"), id="in an address"),
        pytest.param(PEER.replace(".org", f".org:{SECRET}", 1), id="for a port"),
        pytest.param(f"[database]\nurl = '{SECRET}'", id="a table twice"),
        pytest.param(f"[peers.north]\ntoken = '{SECRET}", id="a quote missing"),
        pytest.param(f"[peers.north]\ntoken = {SECRET}", id="both quotes missing"),
    ],
)
def test_no_error_repeats_a_secret_not_even_its_traceback(file: Path, text: str) -> None:
    file.write_text(MINIMAL + text)
    with pytest.raises(SettingsError) as refused:
        load_settings(file, {})
    told = "".join(traceback.format_exception(refused.value)) + repr(refused.value)
    assert SECRET not in told


def test_no_error_repeats_the_value_of_a_variable(file: Path) -> None:
    environment = {"DPN_PEERS__NORTH__TOKEN_FILE": SECRET, "DPN_WORK__ATTEMPTS": SECRET}
    assert SECRET not in problem(file, MINIMAL + PEER, environment)


def test_no_secret_shows_when_settings_are_printed(file: Path) -> None:
    text = (MINIMAL + PEER).replace("a-token", SECRET).replace("sqlite:////srv/dpn/node.db", SECRET)
    text = text.replace("[store]", f'[store]\naccess_key_id = "id"\nsecret_access_key = "{SECRET}"')
    settings = load(file, text)
    assert settings.peers["north"].secret() == SECRET
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    "url", [f"s3://key:{SECRET}@bucket/prefix", f"file://user:{SECRET}@host/folder", f"https://{SECRET}/bucket"]
)
def test_a_store_address_with_credentials_is_refused(file: Path, url: str) -> None:
    message = problem(file, MINIMAL.replace("file:///srv/dpn/store", url))
    assert message.startswith(f"{file}: store.url: must be file:///absolute/folder or s3://bucket")
    assert SECRET not in message


def with_secrets_in(path: Path) -> str:
    text = (MINIMAL + PEER).replace('url = "sqlite:////srv/dpn/node.db"', f'url_file = "{path}"')
    text = text.replace('token = "a-token"', f'token_file = "{path}"')
    return text.replace("[store]", f'[store]\naccess_key_id = "id"\nsecret_access_key_file = "{path}"')


def unusable_secrets(settings: Settings) -> dict[str, str]:
    """What each user of a secret hears of its file, by the key that names it there."""
    users: dict[str, Callable[[], object]] = {
        "database.url_file": settings.database.address,
        "secret_access_key_file": settings.needed_store().secret,
        "token_file": settings.peers["north"].secret,
    }
    messages = {}
    for key, use in users.items():
        with pytest.raises(SettingsError) as refused:
            use()
        messages[key] = str(refused.value)
    return messages


def problem_of(file: Path) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings(file, {})
    return str(refused.value)


@contextmanager
def as_nobody(folder: Path) -> Iterator[Any]:
    """Gives up root's right to read everything, where the tests run as root; `folder` stays reachable."""
    if os.geteuid() != 0:
        yield
        return
    above = [parent for parent in (folder, *folder.parents) if parent.stat().st_mode & 0o055 != 0o055]
    modes = {parent: parent.stat().st_mode for parent in above}
    for parent in above:
        parent.chmod(modes[parent] | 0o055)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        for parent, mode in modes.items():
            parent.chmod(mode)
