"""A path that isn't there may be hidden by the unit: the message says what shows it."""

from pathlib import Path

import pytest

from sockd.base.hidden import hidden_by_mounts, hidden_by_settings, hidden_by_unit

# As /proc/self/mountinfo has them in a service with ProtectHome=yes and PrivateTmp=yes (systemd 252).
MOUNTS = [
    "612 611 0:29 / / ro,relatime shared:1 master:1 - ext4 /dev/sda1 rw",
    "640 612 0:25 /systemd/inaccessible/dir /home ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs rw,mode=755",
    "642 640 0:29 /home/bob/site /home/bob/site ro,relatime - ext4 /dev/sda1 rw",
    "641 612 0:29 /tmp/systemd-private-1f-sockd.service-aa/tmp /tmp rw,relatime - ext4 /dev/sda1 rw",
]


# As `systemctl show` has the same service before it runs.
SHOWN = {
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "BindPaths": "",
    "BindReadOnlyPaths": "/home/bob/site:/home/bob/site:rbind",
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/home/ann/site", ("/home", "ProtectHome=tmpfs and BindReadOnlyPaths=/home/ann/site")),
        ("/tmp/site", ("/tmp", "BindReadOnlyPaths=/tmp/site")),
        ("/srv/site", None),
        ("/home/bob/site/below", None),
        ("/homes", None),
    ],
)
def test_what_a_unit_hides(path: str, found: tuple[str, str] | None) -> None:
    """It is the mount that hides it which tells, not the path alone."""
    words = ""
    if found is not None:
        words = f"; the unit hides {found[0]}: put {found[1]} below [Service] of a drop-in, and restart sockd"
    assert hidden_by_mounts(Path(path), MOUNTS) == words
    assert hidden_by_settings(Path(path), SHOWN) == words


def test_outside_a_unit(tmp_path: Path) -> None:
    """Nothing is hidden here."""
    assert hidden_by_unit(tmp_path / "gone") == ""
    assert hidden_by_settings(Path("/home/ann"), {"ProtectHome": "read-only", "PrivateTmp": "no"}) == ""
