"""The plan's `tls`, `access` and `proxy_protocol`: what is inherited, where files are, what is odd."""

import datetime as dt
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

import sockd.plan
from sockd.base.errors import FileWrongError
from sockd.config.load import load
from sockd.plan import build, certificates
from sockd.plan.guards import Guards
from sockd.plan.plan import AccessPlan, Plan, TlsPlan
from tests.fake_registry import registry
from tests.pem_files import NOW, certificate, key_pem, leaf, middle, pem, root, write
from tests.wrong_file_cases import DIRECTORIES

OLD = "the certificate of 'CN=old': it expired on 2021-01-01"
TEN, NINE = ip_network("10.0.0.0/8"), ip_network("10.0.0.0/9")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with two certificates and an authority, and one more next to the included files."""
    (tmp_path / "conf.d").mkdir()
    write(tmp_path, "a.pem", pem(leaf(), middle()))
    write(tmp_path, "a.key", key_pem("leaf"))
    write(tmp_path, "b.pem", pem(certificate("b", "b.example.org")))
    write(tmp_path, "b.key", key_pem("b"))
    write(tmp_path, "ca.pem", pem(root()))
    write(tmp_path / "conf.d", "c.pem", pem(certificate("c", "c.example.org")))
    write(tmp_path / "conf.d", "c.key", key_pem("c"))
    return tmp_path


def read(directory: Path, text: str) -> Plan:
    (directory / "sockd.yaml").write_text(text)
    return build.read(directory / "sockd.yaml", DIRECTORIES, registry())


def names(tls: TlsPlan | None) -> list[str]:
    """The first name of each certificate."""
    assert tls
    return [one.names[0] for one in tls.certificates]


def test_tls(directory: Path) -> None:
    """The plan has the contents, checked, and the paths of the file."""
    plan = read(
        directory,
        """
endpoints:
  a:
    listen: [tls://127.0.0.1:7, tcp://127.0.0.1:8, systemd://a, {address: systemd://b, tls: true}]
    protocol: sample
    tls:
      certificate: a.pem
      key: a.key
      names: [example.org, www.example.org]
      client_ca: ca.pem
      client_names: [a.example.org]
      min_version: 1.3
      recheck: 5m
  b:
    listen: {address: systemd://c, tls: true}
    protocol: sample
    tls: {certificates: [{certificate: b.pem, key: b.key}, {certificate: a.pem, key: a.key}]}
""",
    )
    assert plan.warnings == ()
    first, second = plan.endpoints
    assert [listener.tls for listener in first.listeners] == [True, False, False, True]
    assert first.tls == TlsPlan(
        certificates=(certificates.certificate(directory / "a.pem", directory / "a.key", NOW)[0],),  # type: ignore[arg-type]
        client_ca=pem(root()),
        client_names=("a.example.org",),
        min_version="1.3",
        recheck=300.0,
    )
    assert first.tls
    assert (first.tls.names, first.tls.client_ca_file) == (
        ("example.org", "www.example.org"),
        directory / "ca.pem",
    )
    assert names(second.tls) == ["b.example.org", "example.org"]
    assert second.tls
    assert (second.tls.client_ca, second.tls.client_names, second.tls.min_version) == (None, (), "1.2")


def test_the_nearest_certificates(directory: Path) -> None:
    """The endpoint's replace those of the defaults, one or several; the rest is inherited."""
    (directory / "conf.d" / "c.yaml").write_text(
        """
endpoints:
  c:
    listen: tls://127.0.0.1:13
    protocol: sample
    tls: {certificate: c.pem, key: c.key}
  d:
    listen: tls://127.0.0.1:14
    protocol: sample
"""
    )
    endpoints = """
include: conf.d/*.yaml
endpoints:
  plain: {listen: tcp://127.0.0.1:10, protocol: sample}
  one:
    listen: tls://127.0.0.1:11
    protocol: sample
    tls: {certificate: b.pem, key: b.key, client_ca: off}
  many:
    listen: tls://127.0.0.1:12
    protocol: sample
    tls: {certificates: [{certificate: a.pem, key: a.key}]}
"""
    for defaults in ("certificate: a.pem, key: a.key", "certificates: [{certificate: a.pem, key: a.key}]"):
        plan = read(directory, f"defaults: {{tls: {{{defaults}, client_ca: ca.pem}}}}{endpoints}")
        tls = {endpoint.name: endpoint.tls for endpoint in plan.endpoints}
        assert tls.pop("plain") is None
        assert {name: names(one) for name, one in tls.items()} == {
            "one": ["b.example.org"],
            "many": ["example.org"],
            "c": ["c.example.org"],
            "d": ["example.org"],
        }
        assert {name: one and one.client_ca is not None for name, one in tls.items()} == {
            "one": False,
            "many": True,
            "c": True,
            "d": True,
        }


def test_files_are_read_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is read once, however many endpoints name it, and warned of once."""
    read_files = []
    original = certificates.certificate
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=3.5)
    write(directory, "a.pem", pem(certificate("leaf", "a.org", end=soon.replace(microsecond=0))))
    write(directory, "ca.pem", pem(root(), certificate("old", end=dt.datetime(2021, 1, 1, tzinfo=dt.UTC))))

    def counted(file: Path, key: Path, now: float) -> object:
        read_files.append(file)
        return original(file, key, now)

    monkeypatch.setattr(certificates, "certificate", counted)
    plan = read(
        directory,
        """
defaults: {tls: {certificate: a.pem, key: a.key, client_ca: ca.pem}}
endpoints:
  a: {listen: tls://127.0.0.1:7, protocol: sample}
  b: {listen: tls://127.0.0.1:8, protocol: sample}
""",
    )
    assert read_files == [directory / "a.pem"]
    assert [(problem.path, problem.place.column, problem.text) for problem in plan.warnings] == [
        (
            "defaults.tls.certificate",
            31,
            f"warning: {directory}/a.pem: it expires on {soon:%Y-%m-%d}, in 3 days",
        ),
        ("defaults.tls.client_ca", 61, f"warning: {directory}/ca.pem: {OLD}"),
    ]


def test_a_renewed_file_makes_another_plan(directory: Path) -> None:
    """A file that was written again with the same content makes no difference."""
    text = "endpoints:\n  a: {listen: tls://*:7, protocol: sample, tls: {certificate: a.pem, key: a.key}}\n"
    before = read(directory, text)
    write(directory, "a.pem", b"# another comment\n" + pem(leaf(), middle()))
    assert read(directory, text) == before
    write(directory, "a.pem", pem(certificate("leaf", "example.org")))
    assert read(directory, text) != before


def test_certificates_without_names_promise_nothing(directory: Path) -> None:
    """A name that no certificate is good for is reported."""
    write(directory, "a.pem", pem(certificate("leaf")))
    text = "certificate: a.pem, key: a.key, names: a.org"
    with pytest.raises(
        FileWrongError, match=r"there is no certificate for 'a[.]org', nor for any other name"
    ):
        read(directory, f"endpoints: {{a: {{listen: 'tls://*:7', protocol: sample, tls: {{{text}}}}}}}")


def test_access(tmp_path: Path) -> None:
    """Key by key from the endpoint and the defaults, as far as it means something for the addresses."""
    plan = read(
        tmp_path,
        """
defaults: {access: {allow: 10.0.0.0/8, users: [root, 5]}}
endpoints:
  both: {listen: [tcp://127.0.0.1:1, unix://a], protocol: sample, access: {deny: [10.0.0.0/9]}}
  inet: {listen: udp://127.0.0.1:2, protocol: sample, access: {allow: off, deny: 10.0.0.0/9}}
  unix: {listen: [unix://b, unixgram://@c], protocol: sample, access: {groups: root}}
  open: {listen: tcp://127.0.0.1:3, protocol: sample, access: {allow: off}}
  systemd: {listen: systemd://a, protocol: sample}
""",
    )
    users = frozenset({0, 5})
    none: frozenset[int] = frozenset()
    assert {endpoint.name: endpoint.access for endpoint in plan.endpoints} == {
        "both": AccessPlan((TEN,), (NINE,), users, none),
        "inet": AccessPlan((), (NINE,), none, none),
        "unix": AccessPlan((), (), users, frozenset({0})),
        "open": None,
        "systemd": AccessPlan((TEN,), (), users, none),
    }


def test_proxies(tmp_path: Path) -> None:
    """The networks of proxies are in the plan."""
    plan = read(
        tmp_path,
        """
endpoints:
  a: {listen: [tcp://*:1, unix://a], protocol: sample, proxy_protocol: {from: 10.0.0.0/8}}
  b: {listen: tcp://*:2, protocol: sample}
""",
    )
    assert [endpoint.proxy_from for endpoint in plan.endpoints] == [(TEN,), ()]


def test_without_tls_nothing_is_imported_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates need a library that loads slowly."""
    monkeypatch.delattr(sockd.plan, "certificates", raising=False)
    monkeypatch.setitem(sys.modules, "sockd.plan.certificates", None)  # importing it fails
    assert read(tmp_path, "endpoints: {a: {listen: 'tcp://*:1', protocol: sample}}").endpoints[0].tls is None


def test_without_a_main_file(tmp_path: Path) -> None:
    """A path stays as it is where no main file says what it is relative to."""
    (tmp_path / "a.yaml").write_text("endpoints: {a: {listen: 'tls://*:1', protocol: sample}}")
    loaded = load(tmp_path / "a.yaml")
    loaded.root = None
    assert Guards(loaded, NOW).place_of(loaded.endpoints[0], Path("a.pem"), "key") == Path("a.pem")
