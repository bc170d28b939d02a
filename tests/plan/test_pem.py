"""PEM files are read within bounds, and refused with a reason."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sockd.plan import pem
from sockd.plan.pem import UnusableError
from tests.pem_files import FIXTURES, key, key_pem, leaf, middle, write
from tests.pem_files import pem as as_pem

PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"


def problem_of_key(directory: Path, data: bytes, mode: int = 0o600) -> str:
    """The reason that a key is refused, without the file's name."""
    with pytest.raises(UnusableError) as caught:
        pem.private_key(write(directory, "key", data, mode))
    text = str(caught.value)
    assert text.count(f"{directory / 'key'}") == 1
    return text.replace(f"{directory / 'key'}", "FILE")


def problem_of_certificates(directory: Path, data: bytes) -> str:
    with pytest.raises(UnusableError) as caught:
        pem.certificates(write(directory, "pem", data))
    return str(caught.value).replace(f"{directory / 'pem'}", "FILE")


def test_certificates_in_their_order(tmp_path: Path) -> None:
    """All certificates are found, whatever is between them, even a key."""
    data = b"subject=CN=leaf\n" + key_pem("leaf") + as_pem(leaf()) + b"\nissuer\r\n" + as_pem(middle())
    assert pem.certificates(write(tmp_path, "a", data)) == [leaf(), middle()]


@pytest.mark.parametrize("name", ["rsa", "ec", "ed25519"])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_kinds_and_forms_of_keys(tmp_path: Path, name: str, form: PrivateFormat) -> None:
    """PKCS 8, and what openssl wrote before it; a certificate in the same file does no harm."""
    if name == "ed25519":
        form = PrivateFormat.PKCS8  # it never had another
    before = PARAMETERS if name == "ec" else b""
    for data in (key_pem(name, form), before + key_pem(name, form), as_pem(leaf()) + key_pem(name, form)):
        read = pem.private_key(write(tmp_path, "a", data))
        numbers = [
            one.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()) for one in (read, key(name))
        ]
        assert numbers[0] == numbers[1]


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_encrypted_keys(tmp_path: Path, form: PrivateFormat) -> None:
    """The daemon can't ask for a passphrase: the reason says how to do without."""
    data = key_pem("leaf", form, BestAvailableEncryption(b"secret"))
    assert problem_of_key(tmp_path, data).startswith("FILE: the key is encrypted, and there is nobody to ask")


@pytest.mark.parametrize(
    ("mode", "whom", "chmod"),
    [
        (0o644, "others read", "0640"),
        (0o604, "others read", "0600"),
        (0o602, "others write", "0600"),
        (0o620, "its group write", "0600"),
        (0o660, "its group write", "0640"),
        (0o666, "others read", "0640"),
        (0o601, "others execute", "0600"),
    ],
)
def test_keys_that_others_could_have_read_or_written(
    tmp_path: Path, mode: int, whom: str, chmod: str
) -> None:
    """The world may do nothing with a key, and its group may not write it."""
    text = problem_of_key(tmp_path, key_pem("leaf"), mode)
    assert text == f"FILE: mode {mode:04o} lets {whom} the key: chmod {chmod}"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440, 0o700])
def test_keys_that_are_kept_well(tmp_path: Path, mode: int) -> None:
    """A group may read a key, so that several daemons can share it."""
    assert pem.private_key(write(tmp_path, "a", key_pem("leaf"), mode))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "FILE: there is no key in it"),
        (b"\x30\x82", "FILE: there is no key in it, nor PEM: openssl can convert it"),
        (as_pem(leaf()), "FILE: there is no key in it, only CERTIFICATE"),
        (
            key_pem("leaf").replace(b"MIG", b"MIH"),
            "FILE: the key in it is damaged, or of a kind that is not known",
        ),
        (key_pem("leaf")[:-40], "FILE: the key in it is damaged, or of a kind that is not known"),
        (key_pem("dsa"), "FILE: this kind of key is not used in TLS: RSA, EC and Ed25519 are"),
        (
            x25519.X25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            "FILE: this kind of key is not used in TLS: RSA, EC and Ed25519 are",
        ),
    ],
)
def test_what_is_no_key(tmp_path: Path, data: bytes, text: str) -> None:
    """The reason says what the file has instead, and nothing of its contents."""
    assert problem_of_key(tmp_path, data) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "FILE: there is no certificate in it"),
        (FIXTURES["der"](), "FILE: there is no certificate in it, nor PEM: openssl can convert it"),
        (key_pem("leaf"), "FILE: there is no certificate in it, only PRIVATE KEY"),
        (FIXTURES["damaged"](), "FILE: a certificate in it is damaged"),
        (as_pem(leaf())[:-30], "FILE: a certificate in it is damaged"),
    ],
)
def test_what_is_no_certificate(tmp_path: Path, data: bytes, text: str) -> None:
    """The same for certificates."""
    assert problem_of_certificates(tmp_path, data) == text


def test_what_is_no_file(tmp_path: Path) -> None:
    """A FIFO is not waited for, and a device not read without end."""
    os.mkfifo(tmp_path / "fifo")
    for name, text in (
        ("missing", f"there is no file {tmp_path}/missing"),
        ("fifo", f"{tmp_path}/fifo: this is not a regular file"),
        (".", f"{tmp_path}: this is not a regular file"),
        ("loop", f"{tmp_path}/loop can't be read: Too many levels of symbolic links"),
    ):
        if name == "loop":
            (tmp_path / name).symlink_to(name)
        for read in (pem.certificates, pem.private_key):
            with pytest.raises(UnusableError) as caught:
                read(tmp_path / name)
            assert str(caught.value) == text


def test_long_files(tmp_path: Path) -> None:
    """Two megabytes hold more authorities than anybody trusts."""
    file = write(tmp_path, "a", as_pem(leaf()) + b"\n" * pem.MAX_FILE_SIZE)
    with pytest.raises(UnusableError, match="more than 2097152 bytes are not read"):
        pem.certificates(file)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_anything(tmp_path: Path, data: st.DataObject) -> None:
    """A damaged file is read, or refused in one line that shows no part of it."""
    text = bytearray(as_pem(leaf()) + key_pem("leaf"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=2))
    file = write(tmp_path, "a", bytes(text))
    told = []
    for read in (pem.certificates, pem.private_key):
        try:
            read(file)
        except UnusableError as error:
            told.append(str(error))
    assert all(line.isprintable() and "MI" not in line for line in told)
