"""What the unit forbids, tried from inside the daemon's own process, and what it must allow."""

from collections.abc import Iterator

import pytest

from tests.systemd.harness import Machine
from tests.systemd.service import Service

FILE = """
endpoints:
  attempt: {listen: 'tcp://127.0.0.1:7001', protocol: attempt}
  echo: {listen: ['tcp://127.0.0.1:80', 'udp://127.0.0.1:7'], protocol: echo}
"""
ATTEMPT = "tcp://127.0.0.1:7001"
NET_BIND_SERVICE = 1 << 10
# A system call by its number, as no flaw would ask Python first.
CALL = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    outcome = getattr(libc, name)(*arguments)
    return errno.errorcode[ctypes.get_errno()] if outcome == -1 else "allowed"
"""


@pytest.fixture(scope="module")
def running(machine: Machine) -> Iterator[Service]:
    """One daemon for all attempts: none of them changes anything."""
    one = Service(machine)
    machine.write("/srv/secret", "secret", 0o600)
    machine.write("/home/somebody/note", "hello")
    try:
        one.start(FILE)
        yield one
    finally:
        one.close()


def outcome(running: Service, code: str) -> str:
    """`allowed`, or the name of what the daemon got instead."""
    answer = running.attempt(ATTEMPT, f"{CALL}\n{code}")
    return str(answer.get("error") or answer["result"])


def test_ports_below_1024(running: Service) -> None:
    """TCP and UDP, though the user is not root."""
    assert running.echoes("tcp://127.0.0.1:80")
    assert running.echoes("udp://127.0.0.1:7")


def test_no_other_capability(running: Service) -> None:
    """In no set is anything but that one; no setuid program gives more."""
    for field in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
        assert int(running.status(field), 16) == NET_BIND_SERVICE, field
    assert running.status("NoNewPrivs") == "1"
    assert running.status("Seccomp") == "2"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/sockd/sockd.yaml",
        "/usr/bin/new",
        "/opt/sockd/new",
        "/var/new",
        "/var/log/new",
        "/boot/new",
        "/new",
    ],
)
def test_nothing_outside_can_be_written(running: Service, path: str) -> None:
    """Neither the file it serves, nor its program, nor the system's."""
    assert outcome(running, f"open({path!r}, 'a')") in {"OSError", "PermissionError"}


@pytest.mark.parametrize(
    "path", ["/srv/secret", "/home/somebody/note", "/root/.profile", "/etc/shadow", "/dev/kmsg"]
)
def test_what_is_not_its_own_cannot_be_read(running: Service, path: str) -> None:
    """Neither what root keeps for itself, nor anybody's home, nor a device."""
    assert outcome(running, f"open({path!r})") in {"FileNotFoundError", "PermissionError"}


@pytest.mark.parametrize("path", ["/run/sockd/new", "/var/log/sockd/new", "/tmp/new"])
def test_its_own_directories_can_be_written(running: Service, path: str) -> None:
    """Sockets, logs, and a /tmp that nobody else sees."""
    code = f"open({path!r}, 'x').close(); os.unlink({path!r}); result = 'allowed'"
    assert outcome(running, code) == "allowed"


def test_its_tmp_is_private(running: Service) -> None:
    """What others left in /tmp isn't there."""
    running.machine.write("/tmp/others", "")
    assert outcome(running, "result = os.path.exists('/tmp/others')") == "False"


def test_other_processes_cannot_be_seen(running: Service) -> None:
    """/proc holds what is the service's own, and nothing of the kernel's settings."""
    assert outcome(running, "result = os.path.exists('/proc/1')") == "False"
    assert outcome(running, "result = os.path.exists('/proc/sys')") == "False"


@pytest.mark.parametrize(
    "call",
    [
        "'ptrace', 0, 0, 0, 0",
        "'mount', b'none', b'/tmp', b'tmpfs', 0, None",
        "'umount2', b'/proc', 0",
        "'unshare', 0x10000000",  # CLONE_NEWUSER
        "'unshare', 0x40000000",  # CLONE_NEWNET
        "'chroot', b'/tmp'",
        "'pivot_root', b'/', b'/'",
        "'setuid', 0",
        "'sethostname', b'other', 5",
        "'reboot', 0",
        "'swapoff', b'/dev/null'",
        "'init_module', None, 0, b''",
        "'bpf', 0, None, 0",
        "'perf_event_open', None, 0, 0, 0, 0",
        "'keyctl', 0, 0, 0",
        "'process_vm_readv', 1, None, 0, None, 0, 0",
        "'syscall', 425, 1, None",  # io_uring_setup
        "'syscall', 175, None, 0, b''",  # init_module, where libc has no function
        "'clock_settime', 0, b'\\0' * 16",
        "'setpriority', 0, 0, -5",
        "'sched_setscheduler', 0, 1, b'\\1\\0\\0\\0'",
        "'personality', 0x0400000",  # READ_IMPLIES_EXEC
        "'mlockall', 1",
    ],
)
def test_system_calls_that_are_denied(running: Service, call: str) -> None:
    """What no network daemon needs is refused by the filter, as if root had forbidden it."""
    name = call.partition(",")[0].strip("'")
    exists = f"hasattr(libc, {name!r})"
    answer = outcome(running, f"result = call({call}) if {exists} else 'EPERM'")
    assert answer == "EPERM"


@pytest.mark.parametrize("protection", [7, 6])
def test_no_memory_is_writable_and_executable(running: Service, protection: int) -> None:
    """Neither mapped so nor made so afterwards: what is sent to the daemon can't become code."""
    mapped = f"libc.mmap.restype = ctypes.c_void_p; result = libc.mmap(None, 4096, {protection}, 0x22, -1, 0)"
    assert outcome(running, f"{mapped}; result = 'denied' if result == 2**64 - 1 else 'allowed'") == "denied"
    later = (
        "import mmap; area = mmap.mmap(-1, 4096); where = ctypes.addressof(ctypes.c_char.from_buffer(area))"
    )
    assert outcome(running, f"{later}; result = call('mprotect', ctypes.c_void_p(where), 4096, 5)") in {
        "EPERM",
        "EACCES",
    }


# By their numbers in Linux: a Python that was built without Bluetooth has no name for it.
@pytest.mark.parametrize(
    "family", [17, 16, 40, 38, 31], ids=["PACKET", "NETLINK", "VSOCK", "ALG", "BLUETOOTH"]
)
def test_other_address_families(running: Service, family: int) -> None:
    """No packets past the kernel's TCP and UDP, no netlink, no other machine's sockets."""
    assert outcome(running, f"import socket; socket.socket({family}, socket.SOCK_RAW)") == "OSError"


def test_no_raw_sockets(running: Service) -> None:
    """ICMP and forged packets take a capability that it doesn't have."""
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"
    assert outcome(running, code) == "PermissionError"


def test_no_setuid_files(running: Service) -> None:
    """Nobody else gets rights through a file that it leaves."""
    code = """
path = "/run/sockd/program"
open(path, "w").close()
try:
    os.chmod(path, 0o4755)
finally:
    os.unlink(path)
"""
    assert outcome(running, code) == "PermissionError"


def test_what_an_upgrade_needs_is_allowed(running: Service) -> None:
    """A child of the same Python, and a memory file that survives exec."""
    code = """
import subprocess, sys
descriptor = os.memfd_create("state", 0)
os.write(descriptor, b"kept")
child = [sys.executable, "-c", f"import os; print(os.pread({descriptor}, 9, 0).decode())"]
result = subprocess.run(child, pass_fds=[descriptor], capture_output=True, check=True, text=True).stdout
os.close(descriptor)
"""
    assert outcome(running, code) == "kept\n"


def test_as_many_descriptors_as_the_unit_allows(running: Service) -> None:
    """The soft limit, made for select(2), has been raised to the hard one, except for the reserved ones."""
    code = """
import resource
from sockd.base import descriptors
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
with descriptors.beyond():
    beyond, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
result = hard - soft == descriptors.MAX_RESERVED, beyond == hard
"""
    assert outcome(running, code) == "[True, True]"
