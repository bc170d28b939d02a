"""A name means one module; a changed one is imported anew only while no endpoint runs with it."""

import os
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger

from sockd.plan.plan import Plan
from sockd.protocols.contract import Host
from sockd.protocols.factory.specification import specification
from tests.protocols.factory.hosting import module, plan_of, problems

MAKE = "VERSION = {version}\nclass Made(Factory):\n    version = VERSION\ndef make(): return Made()\n"


def write(directory: Path, name: str, version: int) -> None:
    """A version of a module, whose file isn't as that of any other version."""
    file = module(directory, name, MAKE.format(version=version))
    os.utime(file, ns=(version * 10**9, version * 10**9))


def files(**paths: str) -> str:
    """A file with endpoints that have these paths and call `make` of the module before the slash."""
    return "endpoints:\n" + "".join(
        f"  {name}: {{listen: 'unix://{name}', protocol: factory,"
        f" options: {{factory: '{path.partition('/')[0]}:make', path: {path.partition('/')[2]}}}}}\n"
        for name, path in paths.items()
    )


class Running:
    """An endpoint that runs with the factory of its plan, until it is stopped."""

    def __init__(self, plan: Plan, name: str) -> None:
        (endpoint,) = [one for one in plan.endpoints if one.name == name]
        host: Host[Any] = Host(
            name, endpoint.options, cast("Any", Clock()), Logger(), fail=lambda _error: None
        )
        assert specification.stream is not None
        assert specification.service is not None
        host.service = specification.service(host)
        host.service.startService()
        self.factory: Any = specification.stream(host)
        self.stop = host.service.stopService


def made(plan: Plan, name: str) -> Any:
    """The factory that a running endpoint would have."""
    one = Running(plan, name)
    one.stop()
    return one.factory


def test_taken_anew_while_nothing_uses_it(tmp_path: Path) -> None:
    """The next read of the file has what is on the disk, also of modules that the first one imports."""
    write(tmp_path, "hosted_m1", 1)
    module(tmp_path, "hosted_m1_main", "from hosted_m1 import make\n")
    text = files(web="hosted_m1_main/.")
    assert made(plan_of(tmp_path, text), "web").version == 1
    write(tmp_path, "hosted_m1", 2)
    assert made(plan_of(tmp_path, text), "web").version == 2


def test_in_use(tmp_path: Path) -> None:
    """What runs keeps its code, a warning says how to get the new one, and the plan is the same."""
    write(tmp_path, "hosted_m2", 1)
    text = files(web="hosted_m2/.")
    before = plan_of(tmp_path, text)
    running = Running(before, "web")
    write(tmp_path, "hosted_m2", 2)
    after = plan_of(tmp_path, text)
    assert made(after, "web").version == 1
    assert after.endpoints == before.endpoints
    (warning,) = map(str, after.warnings)
    assert warning.endswith(
        "options.factory: warning: hosted_m2 has changed since it was imported and is in use: sockd upgrade"
        " takes it"
    )
    assert running.factory.version == 1
    running.stop()
    assert made(plan_of(tmp_path, text), "web").version == 2


def test_another_path(tmp_path: Path) -> None:
    """A changed `path` is followed as changed code is."""
    for version in (1, 2):
        write(tmp_path / f"v{version}", "hosted_m3", version)
    running = Running(plan_of(tmp_path, files(web="hosted_m3/v1")), "web")
    after = plan_of(tmp_path, files(web="hosted_m3/v2"))
    assert made(after, "web").version == 1
    (warning,) = map(str, after.warnings)
    assert "is in use: sockd upgrade takes" in warning
    assert running.factory.version == 1
    running.stop()
    assert made(plan_of(tmp_path, files(web="hosted_m3/v2")), "web").version == 2


def test_two_endpoints_of_one_module(tmp_path: Path) -> None:
    """They share it, and it is in use as long as one of them runs."""
    write(tmp_path, "hosted_m4", 1)
    text = files(one="hosted_m4/.", two="hosted_m4/.")
    running = Running(plan_of(tmp_path, text), "one")
    write(tmp_path, "hosted_m4", 2)
    after = plan_of(tmp_path, text)
    assert type(made(after, "two")) is type(running.factory)
    assert len(after.warnings) == 2


@pytest.mark.parametrize("deep", [False, True])
def test_one_name_in_two_paths(deep: bool, tmp_path: Path) -> None:
    """It is an error of the file, also where the two only import what is called alike."""
    name = f"hosted_m5_{deep}"
    for directory in ("a", "b"):
        write(tmp_path / directory, name, 1)
        if deep:
            module(tmp_path / directory, f"{name}_{directory}", f"from {name} import make\n")
    a, b = (f"{name}_a", f"{name}_b") if deep else (name, name)
    (problem,) = problems(tmp_path, files(one=f"{a}/a", two=f"{b}/b"))
    assert problem.endswith(
        f"{name} is a/{name}.py for the endpoint 'one' and can't be b/{name}.py for this one: a name means"
        " one module, so rename one of them"
    )
    assert problems(tmp_path, files(one=f"{a}/a", two=f"{a}/[a, b]")) == []


def test_a_failed_import_is_tried_again(tmp_path: Path) -> None:
    """What was wrong with a module is forgotten with it."""
    module(tmp_path, "hosted_m6", "raise ValueError('broken')\n")
    text = files(web="hosted_m6/.")
    assert len(problems(tmp_path, text)) == 1
    write(tmp_path, "hosted_m6", 2)
    assert made(plan_of(tmp_path, text), "web").version == 2


def test_a_module_that_is_gone(tmp_path: Path) -> None:
    """What runs has it still, and anything else misses it."""
    write(tmp_path, "hosted_m7", 1)
    text = files(web="hosted_m7/.")
    running = Running(plan_of(tmp_path, text), "web")
    (tmp_path / "hosted_m7.py").unlink()
    (warning,) = plan_of(tmp_path, text).warnings
    assert "hosted_m7 has changed since it was imported and is in use" in str(warning)
    running.stop()
    (problem,) = problems(tmp_path, text)
    assert "there is no module 'hosted_m7' in " in problem


def test_a_name_that_an_endpoint_has_which_the_file_lacks(tmp_path: Path) -> None:
    """It runs until the reload is done, so that another one can't have the name for another module yet."""
    for directory in ("a", "b"):
        write(tmp_path / directory, "hosted_m8", 1)
    running = Running(plan_of(tmp_path, files(one="hosted_m8/a")), "one")
    (problem,) = problems(tmp_path, files(two="hosted_m8/b"))
    assert problem.endswith("so rename one of them, or reload without that endpoint first")
    running.stop()
    assert problems(tmp_path, files(two="hosted_m8/b")) == []


def test_modules_that_are_imported_late(tmp_path: Path) -> None:
    """What a function imports is found in the path of the endpoints that run."""
    module(tmp_path, "hosted_m9_late", "VERSION = 9\n")
    late = "def make():\n    from hosted_m9_late import VERSION\n    factory = Factory()\n"
    module(tmp_path, "hosted_m9", f"{late}    factory.version = VERSION\n    return factory\n")
    assert made(plan_of(tmp_path, files(web="hosted_m9/.")), "web").version == 9


def test_packages_without_an_init(tmp_path: Path) -> None:
    """A directory of modules is a package, as it is for Python, wherever the current directory is."""
    write(tmp_path / "hosted_m10", "inner", 1)
    text = files(web="hosted_m10.inner/.")
    assert made(plan_of(tmp_path, text), "web").version == 1
    write(tmp_path / "hosted_m10", "inner", 2)
    assert made(plan_of(tmp_path, text), "web").version == 2
