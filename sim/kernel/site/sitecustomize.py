"""Runs at the start of every Python program below `cruisers sim run`: puts the simulated /dev/i2c-N in place (sim/kernel/fake.py), then
gives way to the environment's own sitecustomize, if there is one."""

import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _install() -> None:
    """Loads fake.py from beside this folder: the program's own import path is not touched, and no name of ours is on it."""
    spec = importlib.util.spec_from_file_location("_cruisers_fake_kernel", os.path.join(os.path.dirname(_HERE), "fake.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.install(os.environ)


def _chain() -> None:
    """Runs the sitecustomize that this one hides, under its own name; what it raises is reported as if it had been found first."""
    others = [path for path in sys.path if os.path.abspath(path or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_install()
_chain()
