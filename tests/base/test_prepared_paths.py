"""What a lesser user has prepared leads root nowhere: links, second names, directories, at any moment."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from sockd.base import account as account_module
from sockd.base import paths
from sockd.base.account import Account, acting_uid, acts_as_root
from sockd.base.way import PreparedError

pytestmark = pytest.mark.skipif(not acts_as_root(), reason="only root has rights to lend")

NOBODY = 65534
FLAGS = os.O_WRONLY | os.O_NONBLOCK
SECRET = b"root's\n"


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that is root's alone, and that everybody may enter."""
    path = Path(tempfile.mkdtemp(prefix="sockd-"))
    path.chmod(0o755)
    (path / "secret").write_bytes(SECRET)
    (path / "secret").chmod(0o600)
    yield path
    secret = (path / "secret").stat()
    shutil.rmtree(path)
    assert (secret.st_uid, secret.st_gid, stat.S_IMODE(secret.st_mode), secret.st_size) == (
        0,
        0,
        0o600,
        len(SECRET),
    )


@pytest.fixture
def theirs(root: Path) -> Path:
    """A directory of the user nobody."""
    path = root / "theirs"
    path.mkdir()
    os.chown(path, NOBODY, -1)
    return path


def account() -> Account:
    return Account.of(NOBODY)


def opened(path: Path, user: Account | None = None) -> tuple[bool, int]:
    """Whether the file was made, and whose it is, once it was opened to append."""
    with nullcontext() if user is None else paths.hands(path, user):
        one = paths.open_to_append(path, FLAGS, 0o640)
    try:
        return one.made, os.fstat(one.fd).st_uid
    finally:
        os.close(one.fd)


# -- as root, which stays root


def test_links_of_others_are_not_followed(root: Path, theirs: Path) -> None:
    """Neither to a file nor to nothing yet, neither the last name nor one on the way."""
    (theirs / "file").symlink_to("../secret")
    (theirs / "nothing").symlink_to("../made")
    (theirs / "way").symlink_to("..")
    for name in ("file", "nothing", "way/secret", "way/made", "way/theirs/../secret"):
        with pytest.raises(PreparedError, match="is a link that another user than root may have made"):
            paths.open_to_append(theirs / name, FLAGS, 0o640)
    assert not (root / "made").exists()


def test_roots_own_links_are_followed(root: Path) -> None:
    """They are where the administrator put them, as /var/run is; their end is made if need be."""
    (root / "data").mkdir()
    (root / "way").symlink_to("data")
    (root / "log").symlink_to(f"{root}/way/../data/./app.log")
    assert opened(root / "log") == (True, 0)
    assert opened(root / "log") == (False, 0)
    assert stat.S_IMODE((root / "data" / "app.log").stat().st_mode) == 0o640
    (root / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels"):
        opened(root / "loop")


def test_second_names_are_not_opened(root: Path, theirs: Path) -> None:
    """Where the kernel lets users make hard links to others' files."""
    os.link(root / "secret", theirs / "log")
    with pytest.raises(PreparedError, match="second name"):
        opened(theirs / "log")
    (theirs / "log").unlink()


def test_a_sticky_directory(root: Path) -> None:
    """There root's own entries can't be replaced by others, and those of others aren't root's."""
    shared = root / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "mine").symlink_to("../data")
    (shared / "theirs").symlink_to("../secret")
    os.lchown(shared / "theirs", NOBODY, -1)
    assert opened(shared / "mine") == (True, 0)
    with pytest.raises(PreparedError):
        opened(shared / "theirs")


def test_a_plain_file_of_others_is_written(theirs: Path) -> None:
    """It is theirs, and stays theirs; a new one is made there all the same."""
    (theirs / "log").touch()
    os.chown(theirs / "log", NOBODY, -1)
    assert opened(theirs / "log") == (False, NOBODY)
    assert opened(theirs / "new") == (True, 0)


def test_what_root_does_by_the_path_alone_it_does_as_the_owner(root: Path, theirs: Path) -> None:
    """Below a directory of others the path may lead anywhere: so with their rights. Else with root's."""
    (theirs / "sub").mkdir()
    with paths.hands(theirs / "sub" / "a.sock", None) as hands:
        assert hands is not None
        assert acting_uid() == hands.uid == NOBODY
        with pytest.raises(PermissionError):
            (root / "secret").read_bytes()
    assert acting_uid() == 0
    for path in (theirs / "a.sock", root / "a.sock"):
        with paths.hands(path, None) as hands:
            assert hands is None
    (root / "group").mkdir()
    (root / "group").chmod(0o775)
    (root / "group" / "sub").mkdir()
    with (
        pytest.raises(PreparedError, match="others than root"),
        paths.hands(root / "group" / "sub" / "a", None),
    ):
        pass


def test_removing_by_a_path_that_was_prepared(root: Path, theirs: Path) -> None:
    """With a link on the way, what it leads to stays."""
    (theirs / "sub").symlink_to("..")
    with pytest.raises(PermissionError):
        paths.remove(theirs / "sub" / "secret", lambda _: True)
    paths.remove(theirs / "nothing", lambda _: True)
    (theirs / "plain").touch()
    paths.remove(theirs / "plain", lambda _: False)
    paths.remove(theirs / "plain", lambda _: True)
    assert not (theirs / "plain").exists()


# -- as root that is about to become another user


def test_in_that_users_directory_that_user_acts(root: Path, theirs: Path) -> None:
    """Links lead only to where the user could go alone, and what is made is the user's."""
    (theirs / "file").symlink_to("../secret")
    (theirs / "nothing").symlink_to("../made")
    (theirs / "later").symlink_to("new")
    os.link(root / "secret", theirs / "second")
    for name in ("file", "nothing", "second"):
        with pytest.raises(PermissionError):
            opened(theirs / name, account())
    assert not (root / "made").exists()
    assert opened(theirs / "later", account()) == (True, NOBODY)
    assert (theirs / "new").exists()
    (theirs / "second").unlink()


def test_in_roots_own_directory_root_acts(root: Path, theirs: Path) -> None:
    """The user may have no right to make a file there, and can't have prepared anything."""
    assert opened(root / "log", account()) == (True, 0)
    (root / "deep").mkdir(mode=0o700)
    assert opened(root / "deep" / "log", account()) == (True, 0)
    os.chown(root / "log", NOBODY, -1)
    assert opened(root / "log", account()) == (False, NOBODY)


def test_directories_are_made_for_that_user(root: Path, theirs: Path) -> None:
    """The last one is the user's; in the user's own directory, the user makes them, wherever links lead."""
    paths.make_directory(root / "run" / "deep", 0o755, account())
    assert [(root / name).stat().st_uid for name in ("run", "run/deep")] == [0, NOBODY]
    paths.make_directory(theirs / "a" / "b", 0o755, account())
    assert (theirs / "a" / "b").stat().st_uid == NOBODY
    (theirs / "way").symlink_to("..")
    with pytest.raises(PermissionError):
        paths.make_directory(theirs / "way" / "made", 0o755, account())
    with pytest.raises(PreparedError):
        paths.make_directory(theirs / "way" / "made", 0o755, None)
    assert not (root / "made").exists()
    paths.make_directory(theirs / "c", 0o755, None)
    assert (theirs / "c").stat().st_uid == 0


def test_an_account(root: Path) -> None:
    """As the system's files have it; one that they don't have needs a group."""
    assert account().name == "nobody"
    assert account().gid in account().groups
    with pytest.raises(KeyError):
        Account.of(4242424)
    stranger = Account.of(4242424, 4242425)
    assert (stranger.name, stranger.groups) == ("4242424", (4242425,))
    with stranger.acting(), pytest.raises(PermissionError):
        (root / "secret").read_bytes()
    assert (acting_uid(), os.getgroups()) == (0, os.getgroups())


def test_where_a_sandbox_hides_who_acts(monkeypatch: pytest.MonkeyPatch, theirs: Path) -> None:
    """Then the effective user counts, and nobody else's rights can be taken."""
    monkeypatch.setattr(account_module, "setfs", lambda _what: lambda _id: 2**32 - 1)
    assert acts_as_root()
    (theirs / "sub").mkdir()
    with (
        pytest.raises(PermissionError, match="can't act as the user"),
        paths.hands(theirs / "sub" / "a", None),
    ):
        pass
